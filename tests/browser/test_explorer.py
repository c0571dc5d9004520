"""The pages in a real browser: the explorer fills itself from the service's own answers, and its address says what."""

import json
from collections.abc import Iterator

import pytest

from bundle.versions import publish
from service.settings import Settings
from tests.support.browser import Page, browser
from tests.support.servers import running
from tests.support.toy import JAZZ_LOVERS, LOVERS_OF_BOTH, build_toy

CANDIDATES = "[...document.querySelectorAll('#candidates tr')].map(row => row.cells[1].querySelector('a').innerText)"
HOW = "document.getElementById('how').innerText"
ANSWERED = "!document.getElementById('answer').hidden"
NEIGHBOURS = "!document.getElementById('neighbours').hidden"
TITLE = "document.getElementById('similar-title').innerText"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running service over the world of jazz and chess, as a proxy publishes it under /twhin."""
    directory = tmp_path_factory.mktemp("explorer")
    version = build_toy(directory).manifest.version
    publish(directory / "bundles", version)
    with running(Settings(bundles=directory / "bundles", root_path="/twhin")) as address:  # type: ignore[call-arg]
        yield f"{address}/twhin"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One page for all tests: a browser takes a second to start."""
    with browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


def _choose(page: Page, box: str, value: str) -> None:
    page.evaluate("document.getElementById('answer').hidden = true")
    page.evaluate(f"document.getElementById('{box}').value = {json.dumps(value)}")
    page.evaluate(f"document.getElementById('{box}').dispatchEvent(new Event('change'))")
    page.wait(ANSWERED)


def test_a_user_s_interests_and_candidates_are_shown(page: Page, url: str) -> None:
    page.open(f"{url}/", "document.getElementById('version').innerText.includes('toy')")
    assert page.evaluate("location.pathname") == "/twhin/ui"
    page.open(f"{url}/ui?user={JAZZ_LOVERS[0]}&strategy=mixture", ANSWERED)
    assert page.evaluate(CANDIDATES)[0].startswith("jazz-")
    interests = page.evaluate("document.getElementById('interests').innerText")
    assert "100.0% · cluster" in interests
    own = interests.partition("of the user's own: ")[2].split(", ")
    assert {*own} <= {f"jazz-{i:02d}" for i in range(6)}
    because = page.evaluate("document.querySelector('#candidates .why').innerText")
    named = because.removeprefix("because near ").partition(";")[0].rpartition(" ")[0]
    assert {*named.split(", ")} <= {f"jazz-{i:02d}" for i in range(6)}


def test_the_strategy_that_answered_is_named(page: Page, url: str) -> None:
    page.open(f"{url}/ui?user={JAZZ_LOVERS[0]}&relation=follows", ANSWERED)
    assert page.evaluate(HOW).startswith("strategy mixture (chosen by auto)")
    assert page.evaluate("document.querySelector('#strategy').selectedOptions[0].innerText") == "auto"


def test_a_changed_box_asks_again_and_back_leads_back(page: Page, url: str) -> None:
    page.open(f"{url}/ui?user={LOVERS_OF_BOTH[0]}&strategy=popular&k=3", ANSWERED)
    first = page.evaluate(CANDIDATES)
    _choose(page, "k", "5")
    assert page.evaluate(CANDIDATES)[:3] == first
    _choose(page, "strategy", "mixture")
    assert page.evaluate(HOW).startswith("strategy mixture ·")
    assert "strategy=mixture" in page.evaluate("location.search")
    assert "k=5" in page.evaluate("location.search")
    page.evaluate("history.back()")
    page.wait(f"{HOW}.startsWith('strategy popular')")
    page.evaluate("history.back()")
    page.wait(f"JSON.stringify({CANDIDATES}) === {json.dumps(json.dumps(first, separators=(',', ':')))}")
    assert page.evaluate("document.getElementById('k').value") == "3"
    page.evaluate("history.forward()")
    page.wait(f"{CANDIDATES}.length === 5")


def test_whatever_is_listed_can_be_opened(page: Page, url: str) -> None:
    page.open(f"{url}/ui?user={JAZZ_LOVERS[0]}&relation=likes", ANSWERED)
    best = page.evaluate(CANDIDATES)[0]
    page.evaluate("document.querySelector('#candidates a').click()")
    page.wait(NEIGHBOURS)
    assert page.evaluate(TITLE) == f"item {best}: similar"
    page.evaluate("document.querySelector('#similar a').click()")
    page.wait(f"{NEIGHBOURS} && {TITLE} !== {json.dumps(f'item {best}: similar')}")
    page.evaluate("history.back()")
    page.wait(f"{TITLE} === {json.dumps(f'item {best}: similar')}")
    page.evaluate("history.back()")
    page.wait(ANSWERED)
    page.open(f"{url}/ui?user={JAZZ_LOVERS[0]}&relation=follows", ANSWERED)
    friend = page.evaluate(CANDIDATES)[0]
    page.evaluate("document.querySelector('#candidates a').click()")
    page.wait(f"{ANSWERED} && document.getElementById('user').value === {json.dumps(friend)}")


def test_a_problem_is_told_and_markup_in_an_id_stays_text(page: Page, url: str) -> None:
    page.open(f"{url}/ui?user=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", ANSWERED)
    assert page.evaluate("document.images.length") == 0
    assert "does not know this user" in page.evaluate(HOW)
    page.open(f"{url}/ui?type=item&id=%3Cimg%3E", "document.getElementById('problem').innerText.includes('Not found')")
    assert page.evaluate("document.images.length") == 0


def test_it_fits_a_telephone(page: Page, url: str) -> None:
    page.command("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
    try:
        page.open(f"{url}/ui?user={LOVERS_OF_BOTH[0]}&strategy=mixture", ANSWERED)
        assert page.evaluate("document.documentElement.scrollWidth") == page.evaluate("innerWidth") == 390
    finally:
        page.command("Emulation.clearDeviceMetricsOverride")


CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d");
  const luminance = (colour) => {
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((c) => c / 255)
      .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!colour.endsWith(", 0)")) return colour;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? "rgb(18, 18, 18)" : "rgb(255, 255, 255)";
  };
  document.getElementById("problem").textContent = "a problem";
  const texts = [...document.querySelectorAll("a, button, label, .small, .facts, th, td, h1, h2, #problem")]
    .filter((node) => node.offsetParent && node.innerText.trim());
  return texts.map((node) => {
    const [one, two] = [getComputedStyle(node).color, ground(node)].map(luminance).sort((a, b) => b - a);
    return [(one + 0.05) / (two + 0.05), node.outerHTML.slice(0, 60)];
  }).sort((a, b) => a[0] - b[0])[0];
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(page: Page, url: str, scheme: str) -> None:
    page.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    page.open(f"{url}/ui?user={LOVERS_OF_BOTH[0]}&strategy=mixture", ANSWERED)
    ratio, where = page.evaluate(CONTRAST)
    assert ratio >= 4.5, where


def test_no_two_interests_look_the_same(page: Page, url: str) -> None:
    page.open(f"{url}/ui?user={LOVERS_OF_BOTH[0]}&strategy=mixture", ANSWERED)
    bars = page.evaluate("[...document.querySelectorAll('.bar')].map(bar => getComputedStyle(bar).backgroundColor)")
    assert len({*bars}) == len(bars) == 2
    many = page.evaluate("[...colours([...Array(40).keys()].map(i => i * 137)).values()]")
    assert len({*many}) == 40


def test_the_pages_run_under_their_own_policy(page: Page, url: str) -> None:
    page.log.clear()
    page.open(f"{url}/docs", "document.querySelectorAll('.opblock').length > 20")
    page.open(f"{url}/ui?user={LOVERS_OF_BOTH[0]}", ANSWERED)
    assert [line for line in page.log if "Content Security Policy" in line] == []
