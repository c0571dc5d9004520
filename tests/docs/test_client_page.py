"""docs/client.md, block by block: its Python runs as it stands, from the first block to the last."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle.versions import publish
from service.settings import Settings
from tests.docs.pages import ROOT, blocks
from tests.support.servers import running
from tests.support.service_bundle import user_ids, write_toy_bundle

PAGE = ROOT / "docs" / "client.md"
README = ROOT / "client" / "README.md"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A service over two versions, the second published after the first."""
    for seed, name in enumerate(("v1", "v2"), start=1):
        publish(tmp_path / "bundles", write_toy_bundle(tmp_path / "bundles", name, seed=seed).name)
    settings = Settings(bundles=tmp_path / "bundles", read_keys="r-key", warm_up_queries=4, self_test_queries=4)
    with running(settings) as address:
        yield address


def test_the_python_of_the_page_runs_from_top_to_bottom(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    users = user_ids()
    (tmp_path / "users.txt").write_text("\n".join(users[:100]) + "\n")
    names: dict[str, object] = {}
    printed = io.StringIO()
    for block in blocks("python", pages=[PAGE]):
        text = block.text.replace("http://localhost:8000", url).replace('"42"', f'"{users[2]}"')
        text = text.replace('"43"', f'"{users[3]}"')
        with contextlib.redirect_stdout(printed):
            exec(compile(text, f"client.md:{block.line}", "exec"), names)  # noqa: S102 - the page is ours
    assert "entity_not_found 404" in printed.getvalue()
    assert "/k\n" in printed.getvalue()
    assert names["served"].versions == [None, "v2"]  # type: ignore[attr-defined]
    assert names["inputs"].shape == (2, 33)  # type: ignore[attr-defined]
    names["client"].close()  # type: ignore[attr-defined]


def test_the_python_of_the_client_s_readme_runs(url: str) -> None:
    names: dict[str, object] = {}
    [block] = blocks("python", pages=[README])
    text = block.text.replace("http://localhost:8000", url)
    for written, user in zip(('"42"', '"43"'), user_ids(), strict=False):
        text = text.replace(written, f'"{user}"')
    # The service of these tests asks for a key.
    exec(compile(text.replace('")  #', '", key="r-key")  #', 1), "README.md", "exec"), names)  # noqa: S102 - it is ours
    names["client"].close()  # type: ignore[attr-defined]
