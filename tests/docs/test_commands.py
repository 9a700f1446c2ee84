"""Every ``spmem`` command line on the pages is one that the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from spmem.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "docs" / "cli.md"]
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINES = [
    line
    for page in PAGES
    for block in CONSOLE.findall(page.read_text())
    for line in block.splitlines()
    if line.startswith("spmem ")
]


@pytest.fixture(scope="module")
def commands() -> dict[str, Any]:
    """The program's commands by name."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_is_taken(line: str, commands: dict[str, Any]) -> None:
    _, name, *arguments = shlex.split(line, comments=True)
    command = commands[name]
    if hasattr(command, "commands"):  # a group: the next word names the command
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context(name, arguments)


def test_the_page_has_every_command(commands: dict[str, Any]) -> None:
    shown = {line.split()[1] for line in LINES}
    assert shown == set(commands)
