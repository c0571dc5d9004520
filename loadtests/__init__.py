"""Load tests: Locust users for every path, an open-loop generator for latency, recall measured under load."""
