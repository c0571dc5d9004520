"""What the browser's tests know of the studio: when a view is there, how a person clicks, draws and types, axe."""

import json
from pathlib import Path
from typing import Any

from tests.support.browser import Page

# A browser without a graphics card draws the map with the processor.
DRAWS = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
READY = {
    "map": "document.querySelector('.plane')?.dataset.ready === 'true' && document.querySelector('.plane canvas')",
    "ask": "document.querySelector('.answer[aria-busy=false], #similar, .welcome')",
    "versions": "document.querySelector('.versions .detail table')",
    "health": "document.querySelector('.tiles .tile.good')",
}
AXE = Path(__file__).with_name("axe.min.js")
CANDIDATES = "[...document.querySelectorAll('.candidates .candidate .id a')].map(link => link.innerText)"
HOW = "document.querySelector('.how').innerText"
STORY = "document.querySelector('.story')?.innerText ?? ''"


def ready(view: str) -> str:
    """An expression that is true once the view shows what it has."""
    return f"Boolean({READY[view]})"


def shows(text: str, where: str = "main") -> str:
    """An expression that is true while the text is to be read in an element."""
    return f"(document.querySelector({json.dumps(where)})?.innerText ?? '').includes({json.dumps(text)})"


def place_of(page: Page, selector: str) -> tuple[float, float]:
    """The middle of an element, scrolled into sight."""
    page.wait(f"Boolean(document.querySelector({json.dumps(selector)}))")
    box = page.evaluate(
        f"(() => {{ const one = document.querySelector({json.dumps(selector)});"
        "one.scrollIntoView({block: 'center'}); const box = one.getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    return box[0], box[1]


def press(page: Page, kind: str, x: float, y: float, buttons: int = 1) -> None:
    """One event of the mouse."""
    button = "left" if buttons else "none"
    page.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=1)


def click(page: Page, selector: str) -> None:
    """Click in the middle of an element as a person does."""
    x, y = place_of(page, selector)
    press(page, "mousePressed", x, y)
    press(page, "mouseReleased", x, y)


def type_into(page: Page, selector: str, text: str) -> None:
    """Replace what a box holds by typing."""
    click(page, selector)
    page.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
    page.command("Input.insertText", text=text)


def key(page: Page, name: str) -> None:
    """Press a key."""
    codes = {"Enter": 13, "ArrowDown": 40, "Escape": 27, "Tab": 9}
    about = {"key": name, "code": name, "windowsVirtualKeyCode": codes[name]}
    page.command("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": "\r"} if name == "Enter" else {}))
    page.command("Input.dispatchKeyEvent", type="keyUp", **about)


def choose(page: Page, box: str, value: str) -> None:
    """Choose from a list."""
    page.evaluate(
        f"(() => {{ const box = document.querySelector({json.dumps(box)}); box.value = {json.dumps(value)};"
        "box.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def faults(page: Page) -> list[str]:
    """What axe finds that is serious or critical, with the first place of each."""
    page.evaluate(AXE.read_text(encoding="utf-8") + "; 0")
    found: list[dict[str, Any]] = page.evaluate("axe.run(document).then(result => result.violations)")
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:120]} {one['nodes'][0]['failureSummary'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
