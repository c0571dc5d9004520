"""The campaign of faults: damage, attacks and overload, seeded and bounded, run before a release (`make faults`)."""
