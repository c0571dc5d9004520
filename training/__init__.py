"""Training: graph files in, TransE embeddings out."""
