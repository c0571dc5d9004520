"""Two versions, or two evaluations, beside each other: what differs, for whom, and whether that may be chance."""
