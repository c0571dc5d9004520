"""What a run or a version is worth: recall, link prediction, compression, drift, downstream ranking."""
