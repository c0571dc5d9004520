"""What the pages say of commands, flags, settings, files and links is so."""

import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from torch.distributed.run import get_args_parser

from bundle.errors import TwhinError
from bundle.manifest import ClustersEntry, SpaceEntry
from cli.main import app
from graph.schema import read_graph_file
from index.builder.config import BuildConfig
from service.experiments.file import read_experiments
from service.experiments.split import bucket_of
from service.settings import Limits, Settings
from tests.docs.pages import PAGES, ROOT, blocks, inline_code, table
from training.config import TrainConfig

COMMAND: Any = typer.main.get_command(app)
BY_DEFAULT = {"columns", "users_with_modes", "users_without_modes"}  # told beside keys that are always there
ENVIRONMENT = {"TWHIN_DATA", "TWHIN_HISTORY_FILE"}  # read by the tests, not by the product


def command_lines() -> list[tuple[str, str]]:
    """Every line of a block, and every piece of inline code, that calls `twhin`; with its page."""
    lines = []
    for block in blocks():
        text = block.text.replace("\\\n", " ")
        lines += [(block.page.name, line) for line in text.splitlines() if re.match(r"\s*\$? ?twhin [a-z]", line)]
    for page in PAGES:
        lines += [(page.name, code) for code in inline_code(page) if re.match(r"twhin [a-z]", code)]
    return lines


def test_no_command_stands_in_a_block_without_a_fence() -> None:
    """Such a block has no button to copy it by, and none of the tests of commands would see it."""
    begins = re.compile(r"^ {4}(?:\$ )?(?:twhin|python|curl|torchrun|spark-submit|helm|docker|npm|make|pip|uv) ")
    indented = [
        (page.name, number)
        for page in PAGES
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
        if begins.match(line)
    ]
    assert indented == []


@pytest.mark.parametrize(("page", "line"), command_lines(), ids=lambda text: text[:60])
def test_a_command_exists_and_has_the_options_that_a_page_names(page: str, line: str) -> None:
    words = shlex.split(line.split(" #")[0].strip().removeprefix("$ "), comments=False)[1:]
    command = COMMAND
    while words and hasattr(command, "commands"):
        names = words.pop(0).split("|")
        assert set(names) <= set(command.commands), f"{page}: {line}"
        command = command.commands[names[0]]
    options = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    named = {word.strip("[]").partition("=")[0] for word in words if word.strip("[]").startswith("-")}
    assert named - {"-"} <= options | {"--help"}, f"{page}: {line}"


def test_no_shell_reads_a_command_s_url_as_a_pattern_or_as_two_commands() -> None:
    """zsh refuses `curl http://host/path?k=5` without quotes: no file is called so."""
    bare = [
        (block.page.name, word)
        for block in blocks("", "sh")
        for line in re.sub(r"'[^']*'|\"[^\"]*\"", "", block.text.replace("\\\n", " ")).splitlines()
        if re.match(r"\s*(\$ )?(curl|twhin|docker|helm|pip|python) ", line)
        for word in re.split(r"\s+#\s", line)[0].split()
        if re.search(r"[?*\[&]", word) and word != "&"
    ]
    assert bare == []


def test_every_flag_in_the_text_is_a_flag_of_the_command_or_of_a_script() -> None:
    flags = set[str]()

    def collect(command: Any) -> None:
        for parameter in command.params:
            flags.update(parameter.opts, parameter.secondary_opts)
        for inner in getattr(command, "commands", {}).values():
            collect(inner)

    collect(COMMAND)
    scripts = "".join(
        path.read_text()
        for name in ("benchmarks", "loadtests", "faults", "scripts")
        for path in (ROOT / name).glob("*.py")
    )
    flags |= set(re.findall(r'"(--[a-z-]+)"', scripts)) | {"--profile"}  # docker compose's
    flags |= {option for action in get_args_parser()._actions for option in action.option_strings}  # torchrun's
    unknown = {
        (page.name, code)
        for page in PAGES
        for code in inline_code(page)
        if (flag := re.match(r"--[a-z][a-z-]*", code)) and flag[0] not in flags
    }
    assert unknown == set()


def test_every_environment_variable_in_the_pages_is_read_somewhere() -> None:
    known = {f"TWHIN_{name.upper()}" for name in [*Settings.model_fields, *Limits.model_fields]}
    sources = "".join(
        path.read_text()
        for name in ("cli", "engine", "service", "training", "scripts")
        for path in (ROOT / name).rglob("*.*")
        if path.suffix in (".py", ".sh")
    )
    known |= set(re.findall(r"TWHIN_[A-Z_]+", sources)) | ENVIRONMENT
    deploying = [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    pages = [*PAGES, *deploying, ROOT / "Dockerfile", ROOT / "compose.yaml"]
    named = {name for page in pages for name in re.findall(r"\bTWHIN_[A-Z_]+\b", page.read_text(encoding="utf-8"))}
    named -= set(re.findall(r"\$\{(TWHIN_[A-Z_]+):-", (ROOT / "compose.yaml").read_text()))  # the file's own
    assert named - known == set()


def _written(value: object) -> str:
    """A default as the tables write it."""
    if value is None or value in ((), "", frozenset()):
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_the_settings_of_the_service_have_the_defaults_of_the_page() -> None:
    rows = {cells[0].strip("`"): cells[1] for cells in table(ROOT / "docs" / "api.md", "setting")}
    fields = {**Settings.model_fields, **Limits.model_fields}
    fields.pop("limits", None)
    wanted = {
        f"TWHIN_{name.upper()}": _written(field.get_default(call_default_factory=True))
        for name, field in fields.items()
    }
    assert rows == wanted


def test_the_settings_of_training_have_the_defaults_of_the_page() -> None:
    rows = {cells[0].strip("`"): cells[1].strip("`") for cells in table(ROOT / "docs" / "training.md", "name")}
    wanted = {
        name: _written(field.get_default(call_default_factory=True)) for name, field in TrainConfig.model_fields.items()
    }
    assert rows == wanted


def _flat(settings: dict[str, Any], fields: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their whole names, `index.depth`; a table that is one value stays one."""
    for name, value in settings.items():
        inner = getattr(fields[name].annotation, "model_fields", None)
        if isinstance(value, dict) and inner is not None:
            yield from _flat(value, inner, f"{above}{name}.")
        else:
            yield above + name, value


def test_the_settings_of_a_build_stand_on_the_page_with_their_defaults() -> None:
    """Where the page shows another value than the default, its line says what the default is."""
    [page] = [path for path in PAGES if path.name == "indexes.md"]
    shown: dict[str, tuple[object, str]] = {}
    for block in blocks("toml", pages=[page]):
        for name, value in _flat(tomllib.loads(block.text), BuildConfig.model_fields):
            [said] = re.findall(rf"^{name.split('.')[-1]} *=.*", block.text, flags=re.MULTILINE)
            shown[name] = (value, said)
    defaults = dict(_flat(BuildConfig().model_dump(), BuildConfig.model_fields))
    assert set(shown) == set(defaults)
    untold = {
        name: (value, defaults[name])
        for name, (value, said) in shown.items()
        if value != defaults[name] and defaults[name] not in (None, {}) and f"{defaults[name]} by default" not in said
    }
    assert untold == {}


def test_the_options_of_ingest_have_the_defaults_of_the_page() -> None:
    options = {name: parameter for parameter in COMMAND.commands["ingest"].params for name in parameter.opts}
    [page] = [path for path in PAGES if path.name == "streams.md"]
    for name, default, _ in table(page, "option"):
        wanted = options[name.strip("`")].default
        assert default == (
            "off"
            if wanted is False
            else ""
            if wanted is None
            else f"{wanted:g}"
            if isinstance(wanted, float)
            else str(wanted)
        ), name


@pytest.mark.parametrize(("heading", "model"), [("key of a space", SpaceEntry), ("key of `clusters`", ClustersEntry)])
def test_every_key_of_a_manifest_s_space_stands_in_the_table_and_says_whether_it_is_optional(
    heading: str, model: type[BaseModel]
) -> None:
    told = {
        name: "optional" in cells[1].partition(":")[0]
        for cells in table(ROOT / "docs" / "bundle-format.md", heading)
        for name in re.findall(r"`(\w+)`", cells[0])
    }
    assert told == {
        name: not field.is_required() and name not in BY_DEFAULT for name, field in model.model_fields.items()
    }


@pytest.mark.parametrize("block", blocks("toml"), ids=lambda block: f"{block.page.name}:{block.line}")
def test_a_toml_block_is_accepted_as_what_it_is(block: object, tmp_path: Path) -> None:
    text = block.text  # type: ignore[attr-defined]
    document = tomllib.loads(text)
    if "entities" in document or "relations" in document:
        (tmp_path / "graph.toml").write_text(text)
        read_graph_file(tmp_path / "graph.toml")
    elif "experiments" in document:
        (tmp_path / "experiments.toml").write_text(text)
        assert read_experiments(tmp_path / "experiments.toml")
    else:
        BuildConfig.model_validate(document)


def test_links_lead_somewhere() -> None:
    dead = []
    for page in [*PAGES, *sorted((ROOT / "docs" / "decisions").glob("*.md")), ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            path, _, anchor = target.partition("#")
            if "://" in target:
                continue
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and anchor not in _anchors(file)):
                dead.append((page.name, target))
    assert dead == []


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_files_and_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    missing = []
    for page in PAGES:
        for code in inline_code(page):
            if re.fullmatch(r"[\w.-]+(/[\w.-]+)+\.(py|cpp|h|toml|md|json|sh|yaml|yml)", code):
                top = page.parent if code.startswith("..") else ROOT
                if (top / code.split("/")[0]).is_dir() and not (top / code).exists():
                    missing.append((page.name, code))
            if made := re.fullmatch(r"make ([a-z]+)", code):
                missing += [(page.name, code)][made[1] in targets :]
    assert missing == []


def test_errors_of_the_tree_have_the_exit_statuses_of_the_table() -> None:
    rows = {
        int(one) for cells in table(ROOT / "docs" / "architecture.md", "exit status") for one in cells[0].split(",")
    }

    def statuses(error: type[TwhinError]) -> set[int]:
        return {error.exit_status}.union(*map(statuses, error.__subclasses__()))

    assert statuses(TwhinError) <= rows


def test_the_formula_of_experiments_is_right_on_the_page(tmp_path: Path) -> None:
    [block] = [one for one in blocks("python") if one.page.name == "experimenting.md"]
    (tmp_path / "formula.py").write_text(block.text)
    bucket = runpy.run_path(str(tmp_path / "formula.py"))["bucket"]  # and what it asserts holds
    assert all(bucket("salt", str(user)) == bucket_of("salt", str(user)) for user in range(1000))
