"""Preparing a graph on Spark: the same arrays as `graph.prepare` writes, made by many machines."""
