"""What a part of the campaign reports: one promise, what was seen of it, and whether it held."""

from typing import NamedTuple


class Outcome(NamedTuple):
    """One row of the table. `figure` is what was seen, with its counts and units, for a reader's eye."""

    promise: str
    figure: str
    held: bool
