"""A web page in the reader's browser reaches the service with the reader's own network: under a foreign name it gets
nothing, and from a foreign origin it cannot write.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from service.origins import LOOPBACK, Origins
from service.problems import Problem
from service.settings import Settings
from tests.support.servers import ServiceProcess
from tests.support.service_bundle import user_ids

USERS = user_ids()
Start = Callable[..., httpx.Client]
EVENT = json.dumps({"events": [{"id": "foreign", "user": USERS[5], "target": USERS[9]}]})
PATHS = ["/recommend/1", "/v1/info", "/", "/studio/app.js", "/ui", "/docs", "/openapi.json", "/metrics", "/nowhere"]
JSON = {"content-type": "application/json"}
FOREIGN_NAMES = ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.7"]
FOREIGN_NAMES += ["localhost..", "evil.example.", "[::ffff:10.0.0.7]", "0.0.0.0", "."]
OWN_NAMES = ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "127.8.9.1", "[::1]:8000", "[::1]"]
# The same: the dot says that a name is whole, and an address has many writings.
OWN_NAMES += [
    "localhost.",
    "LocalHost.:8000",
    "localhost:",
    "127.0.0.1.",
    "[0:0:0:0:0:0:0:1]:8000",
    "[::FFFF:127.0.0.1]",
]


@pytest.fixture(params=[["--workers", "1"], ["--workers", "2"], ["--host", "LOCALHOST"]])
def local(bundles: Path, request: pytest.FixtureRequest) -> Iterator[ServiceProcess]:
    """`twhin serve` as it starts by default, with one worker and with two, and on a name that leads to loopback."""
    process = ServiceProcess(bundles, *request.param, TWHIN_DRAIN_SECONDS="0")
    yield process.wait_until_ready()
    process.stop()


def test_a_service_of_this_machine_answers_under_this_machine_s_names_alone(local: ServiceProcess) -> None:
    with httpx.Client(base_url=local.url, timeout=20) as client:
        for path in PATHS:
            for name in FOREIGN_NAMES:
                refused = client.get(path, headers={"host": name})
                assert (refused.status_code, refused.json()["code"]) == (421, "host_unknown"), (path, name)
                assert "TWHIN_HOSTS" in refused.json()["detail"]
            for name in OWN_NAMES:
                assert client.get(path, headers={"host": name}).status_code != 421, (path, name)
        for write in ("/v1/engagements", "/recommend"):
            refused = client.post(write, content=EVENT, headers={"host": "evil.example", **JSON})
            assert refused.status_code == 421
        assert client.delete(f"/v1/users/{USERS[5]}/engagements", headers={"host": "evil.example"}).status_code == 421
        assert client.get("/readyz", headers={"host": "evil.example"}).status_code == 200


def test_the_setting_names_whom_it_answers_for(start: Start) -> None:
    client = start(hosts="Ranker.example., twhin")
    for name in ("ranker.example", "RANKER.example.:443", "twhin:8000", "10.1.2.3:8000", "[fd00::1]:8000"):
        assert client.get("/v1/info", headers={"host": name}).status_code == 200, name
    for name in ("evil.example", "localhost", "ranker.example.evil.example", "", "a:b:c"):
        assert client.get("/v1/info", headers={"host": name}).status_code == 421, name
    assert start().get("/v1/info", headers={"host": "anything.example"}).status_code == 200


def test_a_setting_of_this_machine_s_names_alone_is_one_however_they_are_written(start: Start) -> None:
    client = start(hosts="LocalHost., 0:0:0:0:0:0:0:1, 127.0.0.2")
    for name in OWN_NAMES:
        assert client.get("/v1/info", headers={"host": name}).status_code == 200, name
    for name in FOREIGN_NAMES:
        assert client.get("/v1/info", headers={"host": name}).status_code == 421, name


def test_a_name_that_leads_to_this_machine_lets_no_address_in() -> None:
    origins = Origins(Settings(bundles=Path("none"), hosts=(*LOOPBACK, "my-name")))  # type: ignore[call-arg]
    for own in ("my-name:8000", *OWN_NAMES):
        origins.check_host(own)
    for name in FOREIGN_NAMES:
        with pytest.raises(Problem, match="does not answer for that name"):
            origins.check_host(name)


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("https://ranker.example", "ranker.example:443", True),
        ("http://ranker.example", "ranker.example:80", True),
        ("https://ranker.example:443", "ranker.example", True),
        ("https://ranker.example", "Ranker.Example.", True),
        ("http://[::1]:8000", "[0:0:0:0:0:0:0:1]:8000", True),
        ("https://ranker.example", "ranker.example:80", False),
        ("https://ranker.example", "ranker.example:8443", False),
        ("https://ranker.example:8443", "ranker.example", False),
        ("https://ranker.example.evil", "ranker.example", False),
        ("http://[::1]:8000", "[::2]:8000", False),
        ("null", "", False),
        ("null", "null", False),
        ("https://", "", False),
    ],
)
def test_a_page_of_the_very_host_writes_however_that_is_written(origin: str, host: str, own: bool) -> None:
    origins = Origins(Settings(bundles=Path("none")))  # type: ignore[call-arg]
    if own:
        origins.check_writer(host, origin, None)
    else:
        with pytest.raises(Problem, match="pages of that origin"):
            origins.check_writer(host, origin, None)


FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
    {"sec-fetch-site": "cross-site", "origin": "http://localhost:8000"},
]
OWN = [
    {},
    {"origin": "http://localhost:8000"},
    {"sec-fetch-site": "same-origin", "origin": "https://behind.a.proxy"},
    {"sec-fetch-site": "none"},
    {"origin": "https://ranker.example"},
    {"sec-fetch-site": "cross-site", "origin": "https://ranker.example"},
]


@pytest.mark.parametrize("keys", [{}, {"write_keys": "k", "admin_keys": "k"}])
def test_pages_from_elsewhere_do_not_write(start: Start, keys: dict[str, str]) -> None:
    client = start(cors_origins="https://ranker.example/", **keys)
    client.headers.update({"host": "localhost:8000", "x-api-key": "k"})
    erase = f"/v1/users/{USERS[5]}/engagements"
    for headers in FOREIGN:
        for refused in (
            client.post("/v1/engagements", content=EVENT, headers=headers),
            client.delete(erase, headers=headers),
            client.post("/admin/v1/rollback", headers=headers),
            client.post("/admin/v1/versions/v1/activate", headers=headers),
        ):
            assert (refused.status_code, refused.json()["code"]) == (403, "origin_refused"), headers
    for headers in OWN:
        assert client.post("/v1/engagements", content=EVENT, headers=headers).status_code == 200, headers
        assert client.delete(erase, headers=headers).json()["removed"] == 1, headers


def test_an_allowed_origin_may_be_written_with_a_slash(start: Start) -> None:
    client = start(cors_origins="https://ranker.example/")
    answer = client.get("/v1/info", headers={"origin": "https://ranker.example"})
    assert answer.headers["access-control-allow-origin"] == "https://ranker.example"


def test_pages_cannot_be_framed_and_run_no_script_but_their_own(start: Start) -> None:
    client = start()
    for path in ("/", "/docs"):
        headers = client.get(path).headers
        assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["frame-ancestors"] == policy["default-src"] == "'none'"
        assert "unsafe" not in policy["script-src"]
    for path in ("/openapi.json", "/nowhere", "/static-offline-docs/swagger-ui.css", "/livez"):
        assert client.get(path).headers["x-content-type-options"] == "nosniff", path


def test_the_service_under_a_prefix(start: Start) -> None:
    """A proxy publishes it under /twhin; it may leave the prefix in the path or take it away."""
    client = start(root_path="/twhin")
    assert client.get("/ui?user=1").headers["location"] == "/twhin/?user=1"
    assert client.get("/twhin/ui").headers["location"] == "/twhin/"
    assert client.get("/").text == client.get("/twhin/").text
    for prefix in ("", "/twhin"):
        assert client.get(f"{prefix}/v1/info").status_code == 200
        assert client.get(f"{prefix}/studio/app.css").status_code == 200
        assert client.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": "/twhin"}]
        assert client.get(f"{prefix}/static-offline-docs/swagger-ui.css").status_code == 200
        assert '"/twhin/static-offline-docs/swagger-ui.css"' in client.get(f"{prefix}/docs").text
    assert client.get("/twhinx/v1/info").status_code == 404


def test_every_path_tells_its_methods(start: Start) -> None:
    client = start(write_keys="k")
    for path, methods in {
        "/": {"GET", "HEAD"},
        "/livez": {"GET", "HEAD"},
        "/metrics": {"GET", "HEAD"},
        "/recommend": {"POST"},
        "/recommend/1": {"GET", "HEAD"},
        "/v1/users/1/engagements": {"DELETE"},
        "/ui": {"GET", "HEAD"},
    }.items():
        answer = client.options(path)
        assert (answer.status_code, answer.content) == (204, b"")
        assert {*answer.headers["allow"].split(", ")} == methods | {"OPTIONS"}
