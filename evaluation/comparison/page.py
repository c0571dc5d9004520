"""The page of a comparison, and the same numbers as JSON beside it."""

from datetime import datetime
from pathlib import Path

from bundle.disk import write_text
from evaluation.comparison.records import Comparison
from evaluation.report.provenance import Provenance


def write_comparison_page(found: Comparison, made: Provenance, created: datetime, directory: Path) -> Path:
    """Write `compare.json` into `directory`, made if missing. Returns the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "compare.json", found.model_dump_json(indent=1))
    return directory / "compare.json"
