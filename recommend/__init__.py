"""Candidates for a user: plain functions over a loaded bundle. No HTTP, no Redis, no clock."""
