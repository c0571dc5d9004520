"""Requests whose answers are written down, one file each in `answers/`: what a client of today may rely on.

The service runs over the golden version `format-1-hnsw`. An answer that changes on purpose is written again with

    python -m tests.golden.http_requests

and the difference is read before it is committed. What differs from run to run is taken out first: the date, the
server's name, the order of the headers, ids that the service makes up, times. The test lets the last digits of a
score differ, which they do from one processor to another.
"""

import contextlib
import http.client
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bundle.versions import publish
from service.settings import Limits, Settings
from tests.support.servers import running

HERE = Path(__file__).resolve().parent
ANSWERS = HERE / "answers"
VERSION = "format-1-hnsw"
OCTETS = "application/octet-stream"
ORIGIN = "https://ranker.example"
SERVICES: Mapping[str, Mapping[str, Any]] = {
    "open": {"cors_origins": (ORIGIN,)},
    "keyed": {"read_keys": "r-key", "write_keys": "w-key", "admin_keys": "a-key", "metrics_open": False},
    "empty": {},
    "split": {},
}
EXPERIMENTS = """
[[experiments]]
name = "interests"
relation = "likes"
arms = [
    {name = "control", strategy = "auto", share = 0.25},
    {name = "popular", strategy = "popular", share = 0.5},
]
"""


@dataclass(frozen=True)
class Request:
    """One request to one of the services; a body that is no bytes is sent as JSON."""

    service: str
    name: str
    method: str
    target: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Where its answer is written down."""
        return ANSWERS / self.service / f"{self.name}.http"


def _open(name: str, ask: str, body: Any = None, **headers: str) -> Request:
    method, _, target = ask.partition(" ")
    return Request("open", name, method, target, body, {key.replace("_", "-"): value for key, value in headers.items()})


def _keyed(name: str, ask: str, key: str | None, body: Any = None) -> Request:
    method, _, target = ask.partition(" ")
    return Request("keyed", name, method, target, body, {} if key is None else {"x-api-key": key})


def _empty(name: str, ask: str, body: Any = None) -> Request:
    method, _, target = ask.partition(" ")
    return Request("empty", name, method, target, body)


def _split(name: str, ask: str, body: Any = None) -> Request:
    method, _, target = ask.partition(" ")
    return Request("split", name, method, target, body)


EVENT = {"id": "e-1", "user": "101", "target": "jazz-07", "at": 1_700_000_000}
FILTER = {"min_in_degree": 3, "not": {"ids": ["jazz-06", "jazz-05"]}}
NONSENSE = {"attribute": "nonsense", "is": 1}
OPEN = [
    _open("recommend", "POST /recommend", {"user": "101", "k": 3}),
    _open("recommend-v1", "POST /v1/recommend", {"user": "101", "k": 3}),
    _open("recommend-number", "POST /recommend", {"user": 101, "k": 3}),
    _open("recommend-explained", "POST /recommend", {"user": "301", "k": 5, "strategy": "mixture", "explain": True}),
    _open("recommend-lists", "POST /recommend", {"user": "301", "k": 5, "strategy": "mixture_centroid"}),
    _open("recommend-unimodal", "POST /recommend", {"user": "201", "k": 4, "strategy": "unimodal"}),
    _open("recommend-fold-in", "POST /recommend", {"user": "201", "k": 4, "strategy": "fold_in"}),
    _open("recommend-popular", "POST /recommend", {"user": "201", "k": 4, "strategy": "popular"}),
    _open("recommend-lonely", "POST /recommend", {"user": "401", "k": 4}),
    _open("recommend-newcomer", "POST /recommend", {"engagements": [{"target": "chess-03"}], "k": 4}),
    _open("recommend-follows", "POST /recommend", {"user": "101", "relation": "follows", "k": 3, "followers": ["103"]}),
    _open("recommend-excluding", "POST /recommend", {"user": "101", "k": 3, "exclude": ["jazz-06"]}),
    _open("recommend-seen", "POST /recommend", {"user": "101", "k": 3, "exclude_seen": False}),
    _open("recommend-short", "POST /recommend", {"user": "101", "k": 40}),
    _open("recommend-filtered", "POST /recommend", {"user": "101", "k": 3, "filter": FILTER}),
    _open("recommend-filter-unknown", "POST /recommend", {"user": "101", "filter": {"all": [NONSENSE]}}),
    _open("recommend-filter-field", "POST /recommend", {"user": "101", "filter": {"not": {"nonsense": 1}}}),
    _open("recommend-diverse", "POST /recommend", {"user": "301", "k": 4, "diversity": 0.5, "max_per_cluster": 2}),
    _open("recommend-diversity-2", "POST /recommend", {"user": "301", "diversity": 2}),
    _open("recommend-nobody", "POST /recommend", {}),
    _open("recommend-k-0", "POST /recommend", {"user": "101", "k": 0}),
    _open("recommend-k-2000", "POST /recommend", {"user": "101", "k": 2000}),
    _open("recommend-strategy-unknown", "POST /recommend", {"user": "101", "strategy": "nonsense"}),
    _open("recommend-relation-unknown", "POST /recommend", {"user": "101", "relation": "nonsense"}),
    _open("recommend-space-unknown", "POST /recommend", {"user": "101", "space": "nonsense"}),
    _open("recommend-field-unknown", "POST /recommend", {"user": "101", "nonsense": 1}),
    _open("recommend-no-json", "POST /recommend", b"{"),
    _open("recommend-no-body", "POST /recommend", b""),
    _open("recommend-text", "POST /recommend", b"{}", content_type="text/plain"),
    _open("recommend-untyped", "POST /recommend", {"user": "101"}, content_type=""),
    _open(
        "recommend-charset", "POST /recommend", {"user": "101", "k": 1}, content_type="application/json; charset=utf-8"
    ),
    _open("recommend-gzip", "POST /recommend", b"{}", content_encoding="gzip"),
    _open("recommend-large", "POST /recommend", b" " * 3000),
    _open("recommend-put", "PUT /recommend", {"user": "101"}),
    _open("recommend-no-user", "GET /recommend"),
    _open("recommend-get", "GET /recommend/101?k=3"),
    _open("recommend-get-all", "GET /recommend/301?k=3&strategy=mixture&exclude=jazz-06,chess-05&explain=true&modes=1"),
    _open("recommend-get-seen", "GET /recommend/101?k=2&exclude_seen=false&relation=likes&candidate_type=item"),
    _open("recommend-get-slash", "GET /recommend/a%2Fb?k=2"),
    _open("recommend-get-line", "GET /recommend/%0A?k=2"),
    _open("recommend-get-empty", "GET /recommend/"),
    _open("recommend-get-k-x", "GET /recommend/101?k=x"),
    _open("recommend-get-field-unknown", "GET /recommend/101?nonsense=1"),
    _open("recommend-get-user", "GET /recommend/101?user=7"),
    _open("recommend-get-no-utf8", "GET /recommend/101?k=%FF"),
    _open("recommend-head", "HEAD /recommend/101?k=3"),
    _open("recommend-post-path", "POST /recommend/101", {"k": 3}),
    _open("batch", "POST /recommend:batch", {"users": ["101", "301", "999"], "k": 2}),
    _open("batch-mixture", "POST /recommend:batch", {"users": ["101", "201"], "k": 2, "strategy": "mixture"}),
    _open("batch-empty", "POST /recommend:batch", {"users": []}),
    _open("batch-large", "POST /recommend:batch", {"users": ["1"] * 9}),
    _open("interests", "GET /v1/users/301/interests"),
    _open("interests-follows", "GET /v1/users/101/interests?relation=follows"),
    _open("interests-unknown", "GET /v1/users/999/interests"),
    _open("interests-relation-unknown", "GET /v1/users/301/interests?relation=nonsense"),
    _open("interests-post", "POST /v1/users/301/interests", {}),
    _open("embeddings", "POST /v1/embeddings", {"type": "item", "ids": ["jazz-00", "nobody"]}),
    _open("embeddings-base64", "POST /v1/embeddings", {"type": "user", "ids": ["101"], "encoding": "base64"}),
    _open("embeddings-octets", "POST /v1/embeddings", {"type": "item", "ids": ["jazz-00", "nobody"]}, accept=OCTETS),
    _open("embeddings-csv", "POST /v1/embeddings", {"type": "item", "ids": ["jazz-00"]}, accept="text/csv"),
    _open("embeddings-type-unknown", "POST /v1/embeddings", {"type": "nonsense", "ids": ["1"]}),
    _open("embeddings-version", "POST /v1/embeddings", {"type": "item", "ids": ["jazz-00"], "version": "nonsense"}),
    _open("embeddings-large", "POST /v1/embeddings", {"type": "item", "ids": ["a"] * 11}),
    _open("embedding", "GET /v1/embeddings/item/jazz-00"),
    _open("embedding-base64", "GET /v1/embeddings/item/jazz-00?encoding=base64"),
    _open("embedding-octets", "GET /v1/embeddings/item/jazz-00", accept=OCTETS),
    _open("embedding-unknown", "GET /v1/embeddings/item/nobody"),
    _open("embedding-encoding", "GET /v1/embeddings/item/jazz-00?encoding=nonsense"),
    _open("embedding-no-id", "GET /v1/embeddings/item"),
    _open("embedding-delete", "DELETE /v1/embeddings/item/jazz-00"),
    _open("features", "POST /v1/features", {"type": "item", "ids": ["jazz-00", "nobody"]}),
    _open("features-codes", "POST /v1/features", {"type": "user", "ids": ["101"], "representation": "codes"}),
    _open("features-octets", "POST /v1/features", {"type": "user", "ids": ["101"]}, accept=OCTETS),
    _open("codebook", "GET /v1/codebooks/item?version=" + VERSION),
    _open("codebook-unknown", "GET /v1/codebooks/nonsense"),
    _open("codebook-not-modified", "GET /v1/codebooks/item", if_none_match='"52f9f1defbfce9037b9e24a93346c40a"'),
    _open("entities", "GET /v1/entities/item?limit=3"),
    _open("entities-next", f"GET /v1/entities/item?limit=3&cursor=38.{VERSION}"),
    _open("entities-numbers", "GET /v1/entities/user?limit=2&version=" + VERSION),
    _open("entities-past", f"GET /v1/entities/item?limit=3&cursor=40.{VERSION}"),
    _open("entities-limit", "GET /v1/entities/item?limit=11"),
    _open("entities-cursor", "GET /v1/entities/item?cursor=nonsense"),
    _open("entities-cursor-version", f"GET /v1/entities/item?cursor=3.other&version={VERSION}"),
    _open("entities-gone", "GET /v1/entities/item?cursor=3.other"),
    _open("entities-type-unknown", "GET /v1/entities/nonsense"),
    _open("similar", "POST /v1/similar", {"type": "item", "id": "jazz-00", "k": 3}),
    _open("similar-vector", "POST /v1/similar", {"vector": [1.0] + [0.0] * 7, "candidate_type": "item", "k": 2}),
    _open("similar-both", "POST /v1/similar", {"vector": [1.0] * 8, "type": "item", "id": "jazz-00"}),
    _open("similar-untyped", "POST /v1/similar", {"id": "jazz-00"}),
    _open("similar-unknown", "POST /v1/similar", {"type": "item", "id": "nobody"}),
    _open("similar-dim", "POST /v1/similar", {"vector": [1.0], "candidate_type": "item"}),
    _open(
        "score", "POST /v1/score", {"pairs": [{"source": "101", "target": "jazz-00"}, {"source": "x", "target": "y"}]}
    ),
    _open("score-relation", "POST /v1/score", {"pairs": [{"source": "101", "target": "102"}], "relation": "follows"}),
    _open("score-field-unknown", "POST /v1/score", {"pairs": [{"source": "101", "target": "102", "nonsense": 1}]}),
    _open("map-without-places", "GET /v1/map"),
    _open("map-places", "GET /v1/map/user"),
    _open("map-type-unknown", "GET /v1/map/nonsense"),
    _open("map-entities", "POST /v1/map:entities", {"type": "item", "ids": ["jazz-00", "nobody"], "rows": [0, 99]}),
    _open("map-entities-field-unknown", "POST /v1/map:entities", {"type": "item", "nonsense": 1}),
    _open("search", "GET /v1/search?q=jazz-0&k=3"),
    _open("search-number", "GET /v1/search?q=10&type=user&k=3"),
    _open("search-popular", "GET /v1/search?k=2"),
    _open("search-k", "GET /v1/search?q=1&k=51"),
    _open("attributes-none", "GET /v1/attributes"),
    _open("map-attribute-unknown", "GET /v1/map/user/attribute?name=nonsense"),
    _open("recommend-in", f"POST /v1/versions/{VERSION}/recommend", {"user": "101", "k": 2, "explain": True}),
    _open("recommend-in-unknown", "POST /v1/versions/nonsense/recommend", {"user": "101"}),
    _open("recommend-in-nobody", f"POST /v1/versions/{VERSION}/recommend", {"k": 2}),
    _open("manifests", "GET /v1/manifests"),
    _open("engagements", "POST /v1/engagements", {"events": [EVENT, {**EVENT, "id": "e-2", "relation": "nonsense"}]}),
    _open("engagements-again", "POST /v1/engagements", {"events": [EVENT]}),
    _open("engagements-empty", "POST /v1/engagements", {"events": []}),
    _open("engagements-action", "POST /v1/engagements", {"events": [{**EVENT, "action": "nonsense"}]}),
    _open("engagements-get", "GET /v1/engagements"),
    _open("recommend-live", "POST /recommend", {"user": "101", "k": 3}),
    _open("forget", "DELETE /v1/users/101/engagements"),
    _open("forget-again", "DELETE /v1/users/101/engagements?user_type=user"),
    _open("forget-type-unknown", "DELETE /v1/users/101/engagements?user_type=nonsense"),
    _open("livez", "GET /livez"),
    _open("livez-head", "HEAD /livez"),
    _open("livez-post", "POST /livez", {}),
    _open("readyz", "GET /readyz"),
    _open("startupz", "GET /startupz"),
    _open("metrics", "GET /metrics"),
    _open("info", "GET /v1/info"),
    _open("versions", "GET /v1/versions"),
    _open("docs", "GET /docs"),
    _open("openapi", "GET /openapi.json"),
    _open("ui", "GET /ui?user=42"),
    _open("studio-nothing", "GET /studio/nonsense"),
    _open("root", "GET /"),
    _open("unknown", "GET /nonsense"),
    _open("slash", "POST /recommend/", {"user": "101"}),
    _open("admin-off", "GET /admin/v1/versions"),
    _open("id-none", "GET /livez", x_request_id="a b"),
    _open("deadline-word", "GET /v1/info", x_request_timeout_ms="soon"),
    _open("deadline-0", "POST /recommend", {"user": "101"}, x_request_timeout_ms="0"),
    _open("deadline", "GET /recommend/101?k=1", x_request_timeout_ms="99999999"),
    _open("cors", "GET /recommend/101?k=1", origin=ORIGIN),
    _open("cors-elsewhere", "GET /recommend/101?k=1", origin="https://elsewhere.example"),
    _open("cors-asked", "OPTIONS /recommend", origin=ORIGIN, access_control_request_method="POST"),
    _open("options", "OPTIONS /recommend"),
]
KEYED = [
    _keyed("no-key", "GET /v1/info", None),
    _keyed("no-key-path", "GET /recommend/101", None),
    _keyed("wrong-key", "POST /recommend", "x-key", {"user": "101", "k": 1}),
    _keyed("read", "POST /recommend", "r-key", {"user": "101", "k": 1}),
    _keyed("read-writes", "POST /v1/engagements", "r-key", {"events": [EVENT]}),
    _keyed("read-erases", "DELETE /v1/users/101/engagements", "r-key"),
    _keyed("write", "POST /v1/engagements", "w-key", {"events": [EVENT]}),
    _keyed("write-administers", "GET /admin/v1/versions", "w-key"),
    _keyed("admin", "GET /admin/v1/versions", "a-key"),
    _keyed("activate", f"POST /admin/v1/versions/{VERSION}/activate", "a-key"),
    _keyed("activate-unknown", "POST /admin/v1/versions/nonsense/activate", "a-key"),
    _keyed("activate-no-name", "POST /admin/v1/versions/../activate", "a-key"),
    _keyed("rollback", "POST /admin/v1/rollback", "a-key"),
    _keyed("metrics", "GET /metrics", None),
    _keyed("livez", "GET /livez", None),
    _keyed("docs", "GET /docs", None),
    _keyed("unknown", "GET /nonsense", None),
]
EMPTY = [
    _empty("livez", "GET /livez"),
    _empty("readyz", "GET /readyz"),
    _empty("startupz", "GET /startupz"),
    _empty("recommend", "POST /recommend", {"user": "101"}),
    _empty("interests", "GET /v1/users/101/interests"),
    _empty("info", "GET /v1/info"),
]
ANSWERED = {"request_id": "golden", "experiment": "interests", "arm": "popular"}
SPLIT = [
    _split("experiments", "GET /v1/experiments"),
    _split("arm", "POST /recommend", {"user": "101", "k": 2}),
    _split("arm-batch", "POST /recommend:batch", {"users": ["101", "110", "106", ""], "k": 1}),
    _split("arm-without", "GET /recommend/101?k=2&experiments=false"),
    _split("arm-strategy", "GET /recommend/101?k=2&strategy=blend"),
    _split("arm-relation", "GET /recommend/101?k=2&relation=follows"),
    _split(
        "feedback", "POST /v1/feedback", {"events": [{**ANSWERED, "impressions": ["a", "b", "c"], "clicks": ["b"]}]}
    ),
    _split("feedback-again", "POST /v1/feedback", {"events": [{**ANSWERED, "clicks": ["b"]}]}),
    _split("feedback-invalid", "POST /v1/feedback", {"events": [{**ANSWERED, "arm": "nonsense", "clicks": ["b"]}]}),
    _split("feedback-empty", "POST /v1/feedback", {"events": []}),
    _split("feedback-get", "GET /v1/feedback"),
    _split("experiments-after", "GET /v1/experiments"),
]
REQUESTS = [*OPEN, *KEYED, *EMPTY, *SPLIT]


@contextlib.contextmanager
def services() -> Iterator[Mapping[str, str]]:
    """The services running: their URLs by name."""
    limits = Limits(k_max=1000, batch_max=8, lookup_max=10, body_max_bytes=2000, timeout_ms=10_000)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        urls = {}
        for name, settings in SERVICES.items():
            bundles = Path(scratch) / name
            bundles.mkdir()
            if name != "empty":
                shutil.copytree(HERE / VERSION, bundles / VERSION)
                publish(bundles, VERSION)
            if name == "split":
                (bundles / "experiments.toml").write_text(EXPERIMENTS)
            urls[name] = stack.enter_context(running(Settings(bundles=bundles, limits=limits, **settings)))
        yield urls


def answer(url: str, request: Request) -> str:
    """The answer as it is written down: status, headers by name, an empty line, the body."""
    headers = {"host": "localhost", "x-request-id": "golden", "content-type": "application/json", **request.headers}
    body = (
        request.body if request.body is None or isinstance(request.body, bytes) else json.dumps(request.body).encode()
    )
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    with contextlib.closing(connection):
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if value:
                connection.putheader(name, value)
        if body is not None:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        content = response.read()
    lines = sorted(f"{name.lower()}: {_header(name.lower(), value)}" for name, value in response.getheaders())
    head = [str(response.status), *(line for line in lines if not line.startswith(("date:", "server:")))]
    return "\n".join([*head, "", _body(request, response.headers["content-type"], content)])


def _header(name: str, value: str) -> str:
    if name == "content-length" and value != "0":
        return "…"
    if name == "allow":
        return ", ".join(sorted(value.split(", ")))
    return re.sub(r"^[0-9a-f]{12}-[0-9a-f]+$", "made-up", re.sub(r"'sha256-[^']+'", "'sha256-…'", value))


def _body(request: Request, content_type: str | None, content: bytes) -> str:
    if request.target in ("/docs", "/openapi.json", "/") and content.strip():
        return "a document\n"
    if content_type == OCTETS:
        return content.hex(" ", 4) + "\n"
    text = content.decode()
    if request.target == "/metrics" and not content.startswith(b"{"):
        return "".join(
            f"{line}\n" for line in text.splitlines() if line.startswith("# TYPE") and "_created" not in line
        )
    text = re.sub(r'("request_id":")[0-9a-f]{12}-[0-9a-f]+"', r'\1made-up"', text)
    return re.sub(r'("(?:uptime_seconds|load_seconds|release|at)":)("[^"]*"|[0-9.]+)', r"\1…", text) + "\n"


def main() -> None:
    """Write every answer down again."""
    shutil.rmtree(ANSWERS, ignore_errors=True)
    with services() as urls:
        for request in REQUESTS:
            request.file.parent.mkdir(parents=True, exist_ok=True)
            request.file.write_text(answer(urls[request.service], request), encoding="utf-8")


if __name__ == "__main__":
    main()
