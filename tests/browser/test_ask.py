"""Asking in a real browser: interests, candidates and reasons of a user; its address says what, and Back leads back."""

import json
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from bundle.versions import publish
from service.settings import Settings
from tests.browser.studio import CANDIDATES, HOW, choose, click, key, ready, shows, type_into
from tests.support.browser import Page
from tests.support.servers import running
from tests.support.toy import JAZZ_LOVERS, LOVERS_OF_BOTH, build_toy

ANSWERED = ready("ask")
USER = "input[placeholder^='user']"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running service over the world of jazz and chess, as a proxy publishes it under /twhin."""
    directory = tmp_path_factory.mktemp("studio")
    version = build_toy(directory).manifest.version
    publish(directory / "bundles", version)
    with running(Settings(bundles=directory / "bundles", root_path="/twhin")) as address:  # type: ignore[call-arg]
        yield f"{address}/twhin"


def test_an_address_of_the_page_before_leads_to_the_same_user(page: Page, url: str) -> None:
    page.open(f"{url}/ui?user={JAZZ_LOVERS[0]}&strategy=mixture", ANSWERED)
    assert page.evaluate("location.pathname + location.search") == f"/twhin/?user={JAZZ_LOVERS[0]}&strategy=mixture"
    assert page.evaluate(CANDIDATES)[0].startswith("jazz-")


def test_a_user_s_interests_and_candidates_are_shown(page: Page, url: str) -> None:
    page.open(f"{url}/?view=ask", ANSWERED)
    assert page.evaluate(shows("Whom shall we recommend to?"))
    type_into(page, USER, JAZZ_LOVERS[0][:2])
    page.wait("document.querySelectorAll('[role=option]').length === 6")
    key(page, "ArrowDown")
    key(page, "Enter")
    page.wait(shows("Interests"))
    assert page.evaluate(f"new URLSearchParams(location.search).get('user') === {json.dumps(JAZZ_LOVERS[0])}")
    interests = page.evaluate("document.getElementById('interests').innerText")
    assert "100.0%" in interests
    own = interests.partition("The user's own: ")[2].partition("\n")[0].split(", ")
    assert {one.strip() for one in own} <= {f"jazz-{i:02d}" for i in range(6)}
    assert page.evaluate("document.querySelectorAll('.candidate .why').length") == 20
    named = page.evaluate(
        "[...document.querySelector('.candidate .why').querySelectorAll('a')].map(one => one.innerText)"
    )
    assert len(named) > 0
    assert {*named} <= {f"jazz-{i:02d}" for i in range(6)}


def test_the_strategy_that_answered_is_named(page: Page, url: str) -> None:
    page.open(f"{url}/?user={JAZZ_LOVERS[0]}&relation=follows", ANSWERED)
    assert "(chosen by auto)" in page.evaluate(HOW)


def test_a_changed_box_asks_again_and_back_leads_back(page: Page, url: str) -> None:
    page.open(f"{url}/?user={LOVERS_OF_BOTH[0]}&strategy=popular&k=3", ANSWERED)
    first = page.evaluate(CANDIDATES)
    choose(page, "#k", "5")
    page.wait(f"{CANDIDATES}.length === 5")
    assert page.evaluate(CANDIDATES)[:3] == first
    choose(page, "#strategy", "mixture")
    page.wait(f"{HOW}.startsWith('Strategy mixture ·')")
    assert {"strategy=mixture", "k=5"} <= {*page.evaluate("location.search.slice(1)").split("&")}
    page.evaluate("history.back()")
    page.wait(f"{HOW}.startsWith('Strategy popular')")
    page.evaluate("history.back()")
    page.wait(f"{CANDIDATES}.length === 3")
    assert page.evaluate("document.getElementById('k').value") == "3"
    page.evaluate("history.forward()")
    page.wait(f"{CANDIDATES}.length === 5")


def test_two_strategies_stand_side_by_side_with_what_changed(page: Page, url: str) -> None:
    page.open(f"{url}/?user={LOVERS_OF_BOTH[0]}&strategy=popular&k=4", ANSWERED)
    choose(page, "#versus", "mixture")
    page.wait("document.querySelectorAll('.candidates').length === 2")
    lists = page.evaluate(
        "[...document.querySelectorAll('.candidates')].map(list => [...list.querySelectorAll('.candidate')]"
        ".map(one => [one.querySelector('a').innerText, one.querySelector('.badge')?.innerText.trim() ?? '']))"
    )
    before, after = [name for name, _ in lists[0]], dict(lists[1])
    assert all(badge == "" for _, badge in lists[0])
    for place, (name, badge) in enumerate(after.items()):
        if name not in before:
            assert badge == "new"
        else:
            by = before.index(name) - place
            assert badge.split()[-1:] == ([str(abs(by))] if by else [])
    gone = [name for name in before if name not in after]
    assert len(gone) > 0
    assert all(page.evaluate(shows(name, "p.gone")) for name in gone)


def test_somebody_new_is_answered_from_engagements_that_are_typed(page: Page, url: str) -> None:
    page.open(f"{url}/?view=ask", ANSWERED)
    for item in ("chess-00", "chess-01"):
        type_into(page, "input[placeholder^='item']", item)
        page.wait(f"document.querySelector('[role=option]')?.innerText.startsWith('{item}')")
        key(page, "ArrowDown")
        key(page, "Enter")
        page.wait(shows(item, ".chips"))
    page.wait(f"{CANDIDATES}.length === 20 && !{CANDIDATES}.includes('chess-01')")
    candidates = page.evaluate(CANDIDATES)
    assert all(one.startswith("chess-") for one in candidates[:8])
    assert "chess-00" not in candidates
    click(page, ".candidate button.link")
    page.wait(shows(candidates[0], ".chips"))
    click(page, ".chips button")
    page.wait("document.querySelectorAll('.chips li').length === 2")


def test_whatever_is_listed_can_be_opened(page: Page, url: str) -> None:
    page.open(f"{url}/?user={JAZZ_LOVERS[0]}&relation=likes", ANSWERED)
    best = page.evaluate(CANDIDATES)[0]
    click(page, ".candidate .id a")
    page.wait(shows(f"item {best}: similar", "#similar"))
    click(page, "#similar li a")
    page.wait(f"document.querySelector('#similar') && !({shows(f'item {best}: similar', '#similar')})")
    page.evaluate("history.back()")
    page.wait(shows(f"item {best}: similar", "#similar"))
    page.evaluate("history.back()")
    page.wait(f"{CANDIDATES}[0] === {json.dumps(best)}")
    page.open(f"{url}/?user={JAZZ_LOVERS[0]}&relation=follows", ANSWERED)
    friend = page.evaluate(CANDIDATES)[0]
    click(page, ".candidate .id a")
    page.wait(f"document.querySelector({json.dumps(USER)}).value === {json.dumps(friend)}")


def test_the_request_to_copy_answers_the_same_elsewhere(page: Page, url: str) -> None:
    page.open(f"{url}/?user={JAZZ_LOVERS[0]}&strategy=mixture&k=4", ANSWERED)
    click(page, ".code summary")
    command = page.evaluate("document.querySelector('.code pre').innerText").replace("\\\n", " ")
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True, timeout=20)
    assert [one["id"] for one in json.loads(done.stdout)["candidates"]] == page.evaluate(CANDIDATES)
    click(page, ".code .row button:nth-child(2)")
    page.wait(shows("import httpx", ".code"))
    code = page.evaluate("document.querySelector('.code pre').innerText")
    printed: list[str] = []
    exec(code, {"print": lambda name, _: printed.append(name)})  # noqa: S102
    assert printed == page.evaluate(CANDIDATES)


def test_no_two_interests_look_the_same(page: Page, url: str) -> None:
    page.open(f"{url}/?user={LOVERS_OF_BOTH[0]}&strategy=mixture", ANSWERED)
    bars = page.evaluate("[...document.querySelectorAll('.bar')].map(bar => getComputedStyle(bar).backgroundColor)")
    assert len({*bars}) == len(bars) == 2


def test_a_problem_is_told_with_a_way_on(page: Page, url: str) -> None:
    page.open(f"{url}/?type=item&id=nobody", shows("Not found", "[role=alert]"))
    assert page.evaluate("document.querySelector('[role=alert] button').innerText") == "Ask again"
    page.open(f"{url}/?user={JAZZ_LOVERS[0]}&filter=[1", shows("no JSON object", "[role=alert]"))
    page.wait(f"{CANDIDATES}.length > 0")
