"""Which version serves: opening, checking, swapping, refusing."""
