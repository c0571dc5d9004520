"""A version in the formats of others: Parquet, .npy, safetensors, the Embedding Projector, Feast."""
