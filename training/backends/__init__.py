"""The engines of one training step, behind one protocol: compiled for CPUs, torch for GPUs and for judging."""
