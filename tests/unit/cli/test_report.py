"""`--report DIR`: refused before anything is measured when it cannot be written."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bundle.errors import UsageError
from cli.evaluate import app


@pytest.mark.parametrize("what", ["follow", "mixtures", "ranking", "compression", "all"])
def test_a_report_that_cannot_be_written_is_refused_first(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    place, report = str(tmp_path / "none"), str(tmp_path / "file" / "report")
    run = () if what == "ranking" else ("--run", place)
    bundles = () if what == "compression" else ("--bundles", place)
    with pytest.raises(UsageError, match=r"--report .*file is no directory that can be written to"):
        CliRunner().invoke(app, [what, *run, *bundles, "--report", report], catch_exceptions=False)
