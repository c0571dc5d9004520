"""Engagements that arrive while a version serves: stored raw and durable, read at every request."""
