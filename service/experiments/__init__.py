"""Experiments: users are split between strategies, and what they accept is counted for each."""
