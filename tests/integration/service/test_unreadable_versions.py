"""The system refuses a file of the versions while they are served, for want of a permission or because a file system
went away: what is loaded is served on, and who needs the file is told so in a problem document.

A link to a name that is too long for a file is refused to root, too.
"""

from pathlib import Path

import httpx
import pytest

from bundle.versions import publish
from tests.integration.service.conftest import Start

REFUSED = "n" * 300
ASKED = [
    "/livez",
    "/readyz",
    "/recommend/0",
    "/v1/info",
    "/v1/manifests",
    "/v1/versions",
    "/v1/experiments",
    "/metrics",
    "/admin/v1/versions",
    "/v1/embeddings/user/0?version=v2",
    "/v1/map?version=v3",
]
CHANGES = ["/admin/v1/versions/v2/activate", "/admin/v1/versions/v2/publish", "/admin/v1/rollback"]


@pytest.mark.parametrize("name", ["CURRENT", "HISTORY", "TIMELINE", "SHA256SUMS", "LOCK", "v2", "v2/manifest.json"])
def test_a_file_that_the_system_refuses_is_told(start: Start, bundles: Path, name: str) -> None:
    publish(bundles, "v2")
    publish(bundles, "v1")
    client = start(admin_keys="key")
    client.headers["authorization"] = "Bearer key"
    path = bundles / name
    path.rename(bundles / "kept")
    path.symlink_to(REFUSED)
    answers = {place: client.get(place) for place in ASKED} | {place: client.post(place) for place in CHANGES}
    path.unlink()
    (bundles / "kept").rename(path)
    codes = {place: _code(answer) for place, answer in answers.items()}
    assert "files_unavailable" in codes.values(), codes
    assert "internal" not in codes.values(), codes
    for place in ("/livez", "/readyz", "/recommend/0", "/metrics", "/v1/info", "/v1/manifests", "/admin/v1/versions"):
        assert codes[place] == "", codes
    change = answers["/admin/v1/versions"].json().get("change", {})
    assert change.get("code") != "internal"
    assert all(client.get(place).status_code == 200 for place in ASKED[:-1])


def _code(answer: httpx.Response) -> str:
    """The code of a problem document; nothing where the answer is none."""
    if answer.status_code < 400:
        return ""
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert REFUSED not in answer.text
    assert problem["code"] != "files_unavailable" or (problem["status"], answer.headers["retry-after"]) == (503, "1")
    return str(problem["code"])
