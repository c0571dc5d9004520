"""A page as one file that needs nothing beside it: style, script and data inline, and nothing else may run."""

import base64
import hashlib
import html
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from evaluation.report.charts import Charts
from evaluation.report.provenance import Provenance

ASSETS = Path(__file__).with_name("assets")


def document(
    title: str,
    created: datetime,
    lead: str,
    sections: Sequence[tuple[str, str]],
    charts: Charts,
    made: Provenance | None,
) -> str:
    """The whole page: a heading, `lead` as HTML, what it was made from, and sections by their headings.

    A policy in its head lets the page's own script and style work and nothing that a label might smuggle in.
    """
    style, script = ((ASSETS / name).read_text(encoding="utf-8").strip() for name in ("report.css", "report.js"))
    rules = {"default-src": "'none'", "script-src": f"'{_digest(script)}'", "style-src": f"'{_digest(style)}'"}
    rules |= {"img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    policy = "; ".join(" ".join(rule) for rule in rules.items())
    names = [html.escape(name) for name, _ in sections]
    contents = "".join(f'<li><a href="#part-{i}">{name}</a></li>' for i, name in enumerate(names))
    bodies = "".join(
        f'<section id="part-{i}"><h2>{name}</h2>{body}</section>'
        for i, (name, (_, body)) in enumerate(zip(names, sections, strict=True))
    )
    nav = f'<nav aria-label="Contents"><ol>{contents}</ol></nav>' if len(sections) > 1 else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head>"
        f"<body><main><h1>{html.escape(title)}</h1><p><small>{created:%Y-%m-%d %H:%M} UTC.</small></p>{lead}"
        f"{'' if made is None else _provenance(made)}{nav}{bodies}</main>"
        f'<script type="application/json" id="charts">{charts.data()}</script><script>{script}</script></body></html>\n'
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _provenance(provenance: Provenance) -> str:
    items = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in provenance.lines())
    return f"<dl>{items}</dl>"
