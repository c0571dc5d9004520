"""What of the documentation site is made when it is built: the reference of the command, the list of decisions."""

import inspect
import os
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from cli.main import app

COMMANDS = "reference/commands.md"
HEAD = """# The command

What `twhin --help` says of every command. The result goes to the standard output, everything else to the standard
error; where a command has `--json`, both are JSON. The exit statuses are in
[Architecture](../architecture.md#how-the-command-ends). `twhin --install-completion` teaches your shell its words.
"""
DECISIONS = "decisions/index.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """mkdocs' event, once: every decision has its place in the navigation, where `decisions/` stands."""
    pages: list[Any] = [DECISIONS, *(f"decisions/{path.name}" for path in decisions(config))]
    for part in config.nav or []:
        for titled in next(iter(part.values())):
            if isinstance(titled, dict) and titled.get("Decisions") == "decisions/":
                titled["Decisions"] = pages
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """mkdocs' event: add the generated pages."""
    commands = HEAD + "".join(sections(typer.main.get_command(app), "twhin"))
    files.append(File.generated(config, COMMANDS, content=commands))
    rows = [f"- [{_title(path)}]({path.name})\n" for path in decisions(config)]
    text = "# Decisions\n\nWhat was decided, why, and what was tried instead.\n\n" + "".join(rows)
    files.append(File.generated(config, DECISIONS, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """mkdocs' event, for each page: what stands for a file elsewhere gets its text, and links are the site's."""
    docs = Path(config.docs_dir)
    home = (docs / page.file.src_uri).parent
    if included := re.fullmatch(r'--8<-- "(.+)"\s*', markdown):
        source = docs.parent / included[1]
        markdown, home = source.read_text(encoding="utf-8"), source.parent

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found.groups()
        path = Path(os.path.normpath(home / target))
        if not path.is_relative_to(docs):  # the site has no such page: its place in a checkout
            return f"{words} (`{path.relative_to(docs.parent)}`)"
        if path.is_dir():
            path = path / "index.md"
        return f"[{words}]({os.path.relpath(path, (docs / page.file.src_uri).parent)}{anchor or ''})"

    return re.sub(r"(?<!!)\[([^\]]+)\]\(([\w./-]+)(#[^)]*)?\)", link, markdown)


def decisions(config: MkDocsConfig) -> list[Path]:
    """The files of the decisions, in their order."""
    return sorted(Path(config.docs_dir, "decisions").glob("[0-9]*.md"))


def _title(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def sections(command: Any, name: str) -> list[str]:
    """A section for `command` and, below it, for every command that it groups."""
    if hasattr(command, "commands"):
        inner = [text for key, one in command.commands.items() for text in sections(one, f"{name} {key}")]
        return [*([] if name == "twhin" else [f"\n## `{name}`\n\n{_prose(command.help)}\n"]), *inner]
    depth = "###" if name.count(" ") > 1 else "##"
    usage = " ".join([name, *(f"{one.name.upper()}" for one in command.params if one.param_type_name == "argument")])
    rows = [_row(one) for one in command.params if one.name not in ("help",)]
    table = "\n| | default | |\n|---|---|---|\n" + "".join(rows) if rows else ""
    return [f"\n{depth} `{name}`\n\n```\n{usage}\n```\n\n{_prose(command.help)}\n{table}"]


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = f"`{parameter.name.upper()}`"
    default = "" if parameter.required or parameter.default in (None, "", ()) else f"`{_written(parameter.default)}`"
    return f"| {names} | {default or ('must be given' if parameter.required else '')} | {_cell(parameter.help)} |\n"


def _written(default: Any) -> str:
    value = default() if callable(default) else default
    return str(value).lower() if isinstance(value, bool) else str(getattr(value, "value", value))


def _prose(text: str | None) -> str:
    """Help without the markup of terminals; a bracket in it is no link."""
    plain = re.sub(r"\[/?(bold|italic|dim)\]", "", inspect.cleandoc(text or "")).replace("<", "&lt;")
    parts = plain.split("`")  # those at odd places are code
    return "`".join(part if place % 2 else part.replace("[", "\\[") for place, part in enumerate(parts))


def _cell(text: str | None) -> str:
    return " ".join(_prose(text).split()).replace("|", "\\|")
