"""The decisions can be told apart by their numbers."""

import re
from collections import Counter

from tests.docs.pages import ROOT

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def test_each_decision_has_a_number_of_its_own() -> None:
    numbers = Counter(path.name.partition("-")[0] for path in DECISIONS)
    assert numbers
    assert [number for number, times in numbers.items() if times > 1] == []


def test_a_decision_s_heading_has_the_number_of_its_file() -> None:
    headings = {path.name: re.match(r"# (\d+)\. ", path.read_text(encoding="utf-8")) for path in DECISIONS}
    wrong = [name for name, found in headings.items() if not found or int(found[1]) != int(name.partition("-")[0])]
    assert wrong == []
