"""The README and the pages do what they show: every Python block runs, in order, in an empty folder.

A block with a title is a file of that name. A ``pyproject.toml`` among them counts as installed: its entry points are
found. A ``test_….py`` is run by pytest. Lines that start with ``#> `` are what the block prints; without any, what it prints is free to differ.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from spmem import registry

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"python", "console", "toml", "text"}
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


class Block(NamedTuple):
    """A fenced block; ``line`` is its first one's number on the page."""

    language: str
    title: str | None
    line: int
    body: str


def blocks(page: Path) -> list[Block]:
    text, found = page.read_text(), []
    for fence in FENCE.finditer(text):
        info, title = fence["info"], TITLE.search(fence["info"])
        line = text.count("\n", 0, fence.start("body")) + 1
        language = (info.split() or [""])[0]
        found.append(Block(language, title[1] if title else None, line, fence["body"]))
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder from which modules are imported; what they bring is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def install(pyproject: Path) -> None:
    """What an installer leaves of a project: its name, version and entry points."""
    project = tomllib.loads(pyproject.read_text())["project"]
    record = (
        pyproject.parent / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    )
    record.mkdir()
    (record / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, parts in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in parts.items())]
    (record / "entry_points.txt").write_text("\n".join(lines))
    registry._entry_points.cache_clear()  # as a program that starts after the installation


def check(file: Path) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = pytest.main(["-q", "-p", "no:cacheprovider", f"--rootdir={file.parent}", str(file)])
    assert code == 0, printed.getvalue()[-2000:]


def run(page: Path, block: Block, names: dict[str, Any]) -> None:
    code = compile("\n" * (block.line - 1) + block.body, str(page), "exec", dont_inherit=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    told = [line[3:] for line in block.body.splitlines() if line.startswith("#> ")]
    if told:
        assert printed.getvalue().splitlines() == told, f"{page.name}, block at line {block.line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_shows(page: Path, place: Path) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}, line {block.line}: {block.language!r}"
        if block.title:
            file = place / block.title
            file.write_text(block.body)
            if file.name == "pyproject.toml":
                install(file)
            elif file.name.startswith("test_"):
                check(file)
        elif block.language == "python":
            run(page, block, names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_what_is_there(page: Path) -> None:
    links = {link for link in LINK.findall(page.read_text()) if "://" not in link}
    assert not {link for link in links if not (page.parent / link).exists()}


def test_the_navigation_holds_every_page() -> None:
    listed = set(re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert listed == {page.name for page in PAGES[1:]}
