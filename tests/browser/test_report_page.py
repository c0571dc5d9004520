"""Reports in a real browser, from disk: charts, hover, legends, dark mode, paper, phones, hostile labels, axe."""

import base64
from datetime import UTC, datetime

import pytest

from evaluation.comparison.compare import compare_reports
from evaluation.comparison.page import write_comparison
from evaluation.follow import FollowReport
from evaluation.report.page import Report, write_report
from evaluation.report.provenance import provenance
from evaluation.rows import Estimate, Row
from tests.browser.studio import click, faults, press
from tests.support.browser import Page

HOSTILE = "</script><script>window.hit=1</script><img src=x onerror='window.hit=1'>"
RIGHT_TO_LEFT = "\u202eevil \u05d0\u05d1"
DRAWN = "document.documentElement.dataset.drawn"
# A number that tells what is drawn from anything else.
PICTURE = (
    "[...document.querySelector('#chart-1 canvas').toDataURL()]"
    ".reduce((sum, sign) => (31 * sum + sign.charCodeAt(0)) % 1000000007, 7)"
)
BUTTON = "#chart-1 .legend button"


def _row(name: str, kind: str, recall: float) -> Row:
    metrics = {
        f"recall@{k}": Estimate(mean=recall * (1 + k / 100), low=recall, high=recall * (1 + k / 50), n=100)
        for k in (10, 20, 50)
    }
    metrics["diversity@10"] = Estimate(mean=recall, low=recall / 2, high=recall * 1.5, n=100)
    return Row(name=name, kind=kind, metrics=metrics, by_degree={"1-2": metrics, "3-9": metrics})


def _follow(relation: str, better: float = 0.0) -> FollowReport:
    rows = (
        _row("blend", "strategy", 0.4 + better),
        _row(HOSTILE, "strategy", 0.3),
        _row("x" * 256, "strategy", 0.25),
        _row(RIGHT_TO_LEFT, "strategy", 0.2),
        _row("popularity", "baseline", 0.1),
    )
    return FollowReport(version="v1", relation=relation, held_out="test", users=100, seed=1, auto="blend", rows=rows)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of the page of an evaluation and of that of a comparison."""
    folder = tmp_path_factory.mktemp("report")
    created = datetime(2026, 1, 2, tzinfo=UTC)
    made = provenance({"users": 100, "relation": HOSTILE})
    reports = (_follow("follows"), _follow(HOSTILE))
    page = write_report(Report(title=f"A {HOSTILE}", created=created, provenance=made, follow=reports), folder)
    compared = compare_reports(reports, [_follow("follows", 0.1), _follow(HOSTILE)], ("one", HOSTILE))
    return {"report": page.as_uri(), "compare": write_comparison(compared, made, created, folder).as_uri()}


def opened(page: Page, pages: dict[str, str], name: str = "report") -> Page:
    return page.open(pages[name], DRAWN)


@pytest.mark.parametrize(("name", "charts"), [("report", 8), ("compare", 4)])
def test_the_file_opens_from_disk_and_needs_nothing_else(
    page: Page, pages: dict[str, str], name: str, charts: int
) -> None:
    opened(page, pages, name)
    assert page.evaluate(DRAWN) == str(charts)
    assert page.evaluate("document.querySelectorAll('canvas').length") == charts
    assert page.evaluate("performance.getEntriesByType('resource').map(one => one.name)") == []
    assert page.log == []


@pytest.mark.parametrize("name", ["report", "compare"])
def test_labels_are_text_whatever_they_are(page: Page, pages: dict[str, str], name: str) -> None:
    opened(page, pages, name)
    assert page.evaluate("window.hit") is None
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert HOSTILE in page.evaluate("document.querySelector('main').innerText")


def test_no_script_but_the_page_s_own_may_run(page: Page, pages: dict[str, str]) -> None:
    opened(page, pages)
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.hit = 1'})), 0")
    assert page.evaluate("window.hit") is None


def test_a_name_in_the_legend_hides_and_shows_its_series(page: Page, pages: dict[str, str]) -> None:
    opened(page, pages)
    whole = page.evaluate(PICTURE)
    assert page.evaluate("document.querySelector('#chart-1').dataset.shown") == "5"
    click(page, BUTTON)
    page.wait("document.querySelector('#chart-1').dataset.shown === '4'")
    assert page.evaluate(f"document.querySelector('{BUTTON}').getAttribute('aria-pressed')") == "false"
    press(page, "mouseMoved", 1, 1, buttons=0)
    page.wait(f"{PICTURE} !== {whole!r}")
    click(page, BUTTON)
    press(page, "mouseMoved", 1, 1, buttons=0)
    page.wait(f"{PICTURE} === {whole!r}")


def test_keys_work_the_legend(page: Page, pages: dict[str, str]) -> None:
    opened(page, pages)
    page.evaluate(f"document.querySelector('{BUTTON}').focus()")
    for kind in ("keyDown", "keyUp"):
        page.command("Input.dispatchKeyEvent", type=kind, key=" ", code="Space", windowsVirtualKeyCode=32, text=" ")
    page.wait("document.querySelector('#chart-1').dataset.shown === '4'")


def test_pointing_at_a_chart_tells_the_numbers(page: Page, pages: dict[str, str]) -> None:
    opened(page, pages)
    box = page.evaluate(
        "(() => { const over = document.querySelector('#chart-0 .u-over'); over.scrollIntoView({block: 'center'});"
        "const box = over.getBoundingClientRect(); return [box.x, box.y, box.width, box.height]; })()"
    )
    x, y, width, height = box
    told = set()
    for step in range(0, int(width), 12):
        press(page, "mouseMoved", x + step, y + height / 5.4, buttons=0)
        told.add(page.evaluate("document.querySelector('#chart-0 .tip:not([hidden])')?.innerText"))
    assert any(text and "blend" in text and "recall@10: 0.44 (0.4 to 0.48)" in text for text in told), told


def test_dark_mode_changes_page_and_charts_and_paper_is_light(page: Page, pages: dict[str, str]) -> None:
    opened(page, pages)
    ground = "getComputedStyle(document.body).backgroundColor"
    light, drawn = page.evaluate(ground), page.evaluate(PICTURE)
    page.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    page.wait(f"{PICTURE} !== {drawn!r}")
    assert page.evaluate(ground) != light
    dark = page.evaluate(PICTURE)
    page.evaluate("window.printed = 0, addEventListener('beforeprint', () => { window.printed = " + PICTURE + "; }), 0")
    paper = page.command("Page.printToPDF", printBackground=False)
    assert base64.b64decode(paper["data"]).startswith(b"%PDF")
    assert page.evaluate("window.printed") not in (0, dark)
    page.wait(f"{PICTURE} === {dark!r}")  # as before once it is printed
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.command("Emulation.setEmulatedMedia", media="print", features=features)
    page.wait(f"{ground} === {light!r}")
    page.command("Emulation.setEmulatedMedia", media="", features=[])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["report", "compare"])
def test_axe_finds_nothing_serious(page: Page, pages: dict[str, str], name: str, scheme: str) -> None:
    page.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    opened(page, pages, name)
    assert faults(page) == []


@pytest.mark.parametrize("name", ["report", "compare"])
def test_nothing_is_wider_than_a_telephone(page: Page, pages: dict[str, str], name: str) -> None:
    page.command("Emulation.setDeviceMetricsOverride", width=360, height=780, deviceScaleFactor=2, mobile=True)
    opened(page, pages, name)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360
