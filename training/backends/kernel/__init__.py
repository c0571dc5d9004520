"""The compiled training step: one C++ file, compiled on first use by the system's compiler and kept per user."""
