"""The pages of the documentation, taken apart: fenced blocks, code in running text, tables, links."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ["docs", "docs/tutorials", "docs/howto", "docs/reference", "deploy"]
PAGES = [
    ROOT / "README.md",
    ROOT / "client" / "README.md",
    *(page for folder in FOLDERS for page in sorted((ROOT / folder).glob("*.md"))),
]


class Block(NamedTuple):
    """A fenced block: its page, the word after the fence (or nothing), the first line's number, the text."""

    page: Path
    language: str
    line: int
    text: str


def blocks(*languages: str, pages: list[Path] = PAGES) -> list[Block]:
    """The fenced blocks in these languages, in the order of the pages; of every language where none is named."""
    found = []
    for page in pages:
        fence: Block | None = None
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.startswith("```"):
                fence = fence._replace(text=f"{fence.text}{line}\n") if fence else None
            elif fence is None:
                fence = Block(page, line.removeprefix("```").strip(), number + 1, "")
            else:
                found.append(fence)
                fence = None
    return [block for block in found if not languages or block.language in languages]


def inline_code(page: Path) -> list[str]:
    """What stands between backticks in the running text of `page`."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def table(page: Path, first_heading: str) -> list[list[str]]:
    """The cells of all tables of `page` whose first column is headed `first_heading`, without the heading."""
    rows: list[list[str]] = []
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            inside = False
        elif cells[0] == first_heading:
            inside = True
        elif inside and set(cells[0]) - set("-: "):
            rows.append(cells)
    return rows
