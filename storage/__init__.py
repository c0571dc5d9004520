"""Versions and edge files in object storage. The serving process never imports this package."""
