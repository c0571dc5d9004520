"""Pages of a real Chromium against a service without keys: a page from elsewhere cannot write, read or erase, under
any origin and any name that leads to the service's address.
"""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from bundle.versions import publish
from faults.outcome import Outcome
from tests.support.browser import Page, browser
from tests.support.servers import ServiceProcess
from tests.support.service_bundle import user_ids, write_toy_bundle

VICTIM, TARGET = user_ids()[5:7]
EVENT = json.dumps({"events": [{"user": VICTIM, "target": TARGET}]})
# Each is a promise of the page's language; what it comes to does not matter, what the service has stored does.
WRITES = (
    "fetch(service + '/v1/engagements', {method: 'POST', body: event})",
    "fetch(service + '/v1/engagements', {method: 'POST', mode: 'no-cors', body: event})",
    "fetch(service + '/v1/engagements', {method: 'POST', mode: 'no-cors', body: new Blob([event])})",
    "fetch(service + '/v1/engagements', {method: 'POST', mode: 'no-cors', body: new TextEncoder().encode(event)})",
    "fetch(service + '/v1/engagements', {method: 'POST', body: event, headers: {'content-type': 'application/json'}})",
    "fetch(service + '/v1/engagements', {method: 'POST', mode: 'no-cors', body: event, credentials: 'include',"
    " headers: {'content-type': 'application/x-www-form-urlencoded'}})",
    "Promise.resolve(navigator.sendBeacon(service + '/v1/engagements', event))",
    "Promise.resolve(navigator.sendBeacon(service + '/v1/engagements', new Blob([event])))",
    "Promise.resolve(navigator.sendBeacon(service + '/v1/engagements', new Blob([event], {type: 'application/json'})))",
    "form('text/plain')",
    "form('application/x-www-form-urlencoded')",
    "form('multipart/form-data')",
    "request('POST', '/v1/engagements', event, {'content-type': 'application/json'})",
)
ERASURES = (
    "fetch(service + erasure, {method: 'DELETE'})",
    "fetch(service + erasure, {method: 'DELETE', mode: 'no-cors'})",
    "fetch(service + erasure, {method: 'POST', headers: {'x-http-method-override': 'DELETE'}})",
    "request('DELETE', erasure)",
)
# Each comes to what the page could read: nothing, or it is caught.
READS = (
    "fetch(service + recommend).then(answer => answer.text())",
    "fetch(service + recommend, {mode: 'no-cors'}).then(answer => answer.text())",
    "fetch(service + '/v1/info', {credentials: 'include'}).then(answer => answer.text())",
    "fetch(service + '/recommend', {method: 'POST', body: JSON.stringify({user: victim}),"
    " headers: {'content-type': 'application/json'}}).then(answer => answer.text())",
    "request('GET', recommend)",
    "frame(service + '/')",
    "frame(service + recommend)",
    "script(service + recommend)",
)
HELPERS = """
const request = (method, path, body, headers = {}) => new Promise((done) => {
  const asked = new XMLHttpRequest();
  asked.onloadend = () => done(asked.responseText);
  asked.open(method, service + path);
  for (const [name, value] of Object.entries(headers)) asked.setRequestHeader(name, value);
  asked.send(body);
});
const added = (node) => new Promise((done) => {
  node.onload = node.onerror = () => done(node);
  setTimeout(() => done(node), 3000);
  document.body.append(node);
});
const frame = (src) => added(Object.assign(document.createElement("iframe"), { src }))
  .then((node) => node.contentDocument ? node.contentDocument.body.innerText : "");
const script = (src) => added(Object.assign(document.createElement("script"), { src }))
  .then(() => typeof candidates === "undefined" ? "" : "read");
const form = (enctype) => {
  const target = Object.assign(document.createElement("iframe"), { name: "target" + Math.random() });
  document.body.append(target);
  const sent = Object.assign(document.createElement("form"),
    { method: "POST", action: service + "/v1/engagements", enctype, target: target.name });
  // A body of text/plain is NAME=VALUE: cut so that it is one JSON document.
  const field = Object.assign(document.createElement("input"), { name: event.slice(0, -1) + ', "x": "', value: '"}' });
  sent.append(field);
  document.body.append(sent);
  return new Promise((done) => { target.onload = done; setTimeout(done, 3000); sent.submit(); });
};
"""


def run(scratch: Path, seed: int, long: bool) -> Iterator[Outcome]:
    """Every attempt from every origin; the seed changes nothing, there is no more to try with `long`."""
    write_toy_bundle(scratch / "bundles", "v1")
    publish(scratch / "bundles", "v1")
    service = ServiceProcess(scratch / "bundles", TWHIN_DRAIN_SECONDS="0").wait_until_ready()
    try:
        with (
            _blank_pages() as port,
            browser(scratch / "profile", "--host-resolver-rules=MAP *.example 127.0.0.1") as page,
        ):
            origins = [f"http://{name}:{port}" for name in ("127.0.0.1", "localhost", "evil.example")]
            yield _writes(page, service, origins)
            yield _erasures(page, service, origins)
            yield _reads(page, service, origins)
            yield _under_a_foreign_name(page, service)
    finally:
        service.stop()


@contextlib.contextmanager
def _blank_pages() -> Iterator[int]:
    """Somebody else's server: an empty page at every path. Gives its port."""

    class Blank(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><body>")

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Blank)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _attempt(page: Page, service: str, attempt: str) -> str:
    """What the attempt could read, in the page that is open."""
    names = {"service": service, "event": EVENT, "victim": VICTIM, "recommend": f"/recommend/{VICTIM}"}
    names["erasure"] = f"/v1/users/{VICTIM}/engagements"
    given = "".join(f"const {name} = {json.dumps(value)};" for name, value in names.items())
    program = (
        f"(async () => {{ {given} {HELPERS} try {{ return String(await {attempt}); }} catch {{ return ''; }} }})()"
    )
    return str(page.evaluate(program))


def _stored(service: ServiceProcess) -> int:
    """How many events the service has of the victim; it has none afterwards."""
    erased: int = httpx.delete(f"{service.url}/v1/users/{VICTIM}/engagements").json()["removed"]
    return erased


def _writes(page: Page, service: ServiceProcess, origins: list[str]) -> Outcome:
    stored = 0
    for origin in origins:
        page.open(origin)
        for attempt in WRITES:
            _attempt(page, service.url, attempt)
        page.evaluate("new Promise(done => setTimeout(done, 300))")  # beacons are sent when the browser likes
        stored += _stored(service)
    tried = len(origins) * len(WRITES)
    return Outcome("a page from elsewhere stores nothing", f"{stored} of {tried} attempts stored", stored == 0)


def _erasures(page: Page, service: ServiceProcess, origins: list[str]) -> Outcome:
    kept = tried = 0
    for origin in origins:
        page.open(origin)
        for attempt in ERASURES:
            httpx.post(f"{service.url}/v1/engagements", json=json.loads(EVENT)).raise_for_status()
            _attempt(page, service.url, attempt)
            kept += _stored(service)
            tried += 1
    return Outcome("a page from elsewhere erases nothing", f"{tried - kept} of {tried} attempts erased", kept == tried)


def _reads(page: Page, service: ServiceProcess, origins: list[str]) -> Outcome:
    read = 0
    for origin in origins:
        page.open(origin)
        read += sum(_attempt(page, service.url, attempt) != "" for attempt in READS)
    tried = len(origins) * len(READS)
    return Outcome("a page from elsewhere reads nothing", f"{read} of {tried} attempts read", read == 0)


def _under_a_foreign_name(page: Page, service: ServiceProcess) -> Outcome:
    """A name that was made to lead to the service: its pages are the service's own, but for the name."""
    foreign = f"http://evil.example:{service.port}"
    answered = tried = 0
    for path in ("/", "/studio/app.js", "/docs", "/openapi.json", "/v1/info", "/metrics", f"/recommend/{VICTIM}"):
        page.open(foreign + path)
        answered += "TWHIN_HOSTS" not in page.evaluate("document.body.innerText")
        tried += 1
    httpx.post(f"{service.url}/v1/engagements", json=json.loads(EVENT)).raise_for_status()
    for attempt in (*WRITES, *ERASURES):
        _attempt(page, foreign, attempt)
        tried += 1
    for attempt in READS[:5]:
        answered += "TWHIN_HOSTS" not in _attempt(page, foreign, attempt)
        tried += 1
    events = _stored(service)
    figure = f"{answered} of {tried} requests answered, {events} of 1 event there afterwards"
    return Outcome("under a foreign name nothing is answered", figure, answered == 0 and events == 1)
