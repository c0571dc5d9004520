"""The JSON of the API as types: requests are closed, answers are complete."""
