"""The contract between the parts, on disk and in memory: numpy and pydantic, no torch, no index library."""
