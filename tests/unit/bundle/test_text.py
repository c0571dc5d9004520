"""What an editor puts before text, and other encodings: read, or refused in one line that repeats nothing."""

from pathlib import Path

import pytest

from bundle.errors import ConfigError
from bundle.text import read_text, read_toml, toml_of


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_toml_is_read_as_editors_save_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes('# Größe\r\ndim = 8\r\nname = "é"\r\n'.encode(encoding))
    assert read_toml(path) == {"dim": 8, "name": "é"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_the_mark_is_no_part_of_a_secret(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "password"
    path.write_bytes("hunter2\n".encode(encoding))
    assert read_text(path) == "hunter2\n"


@pytest.mark.parametrize("data", [b"a = 1\nb = 'secret \xe9'\n", b"a = 1\nb = 'secret'\xff"])
def test_what_is_no_text_is_refused_by_its_line_and_not_repeated(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(data)
    with pytest.raises(ConfigError, match=r"a\.toml, line 2: .*UTF-8") as refused:
        read_toml(tmp_path / "a.toml")
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_toml_that_is_none_is_refused_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("a = 1\na = 2\n")
    with pytest.raises(ConfigError, match=r"a\.toml is not valid TOML: .*line 2"):
        read_toml(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_toml(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text("a = " + "9" * 5_000)  # more digits than Python makes a number of
    with pytest.raises(ConfigError, match="a number of thousands of digits"):
        read_toml(tmp_path / "a.toml")


@pytest.mark.parametrize("name", ["gefällt", "😀", 'a"b\\c', "\x00\t\n\x1f\x7f", "\u2028", "1=x"])
def test_what_is_written_as_toml_is_read_as_it_was(tmp_path: Path, name: str) -> None:
    value = {name: [name, 1, 0.5, 1e-05, True], "table": {name: 2.0}, "tables": [{name: 1}, {}]}
    (tmp_path / "a.toml").write_text(f"x = {toml_of(value)}\n", encoding="utf-8")
    assert read_toml(tmp_path / "a.toml") == {"x": value}
