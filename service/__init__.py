"""The HTTP service: look-ups, features and candidates from one loaded version at a time."""
