"""Frozen embeddings as features of a ranking model: labelled examples, small models, what they gain."""
