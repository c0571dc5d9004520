"""Graph files: from `graph.toml` and edge files to the prepared graph that the trainer reads."""
