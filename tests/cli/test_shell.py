"""What all commands share: help, versions, errors in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spmem import __version__
from spmem.errors import NotAMemoryError


def one_line(result: Any) -> str:
    """The error of a command that went wrong: one line on stderr, no traceback, nothing on stdout."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("spmem: ")
    assert result.stderr.count("\n") == 1
    message: str = result.stderr
    return message


def test_help_names_every_command(run: Any) -> None:
    result = run("--help")
    assert result.exit_code == 0
    commands = "demo ingest retrieve find render info doctor warm bench"
    for command in commands.split():
        assert command in result.stdout
        assert run(command, "--help").exit_code == 0


def test_version(run: Any) -> None:
    assert run("--version").stdout.split() == ["spmem", __version__]


def test_an_unknown_command_is_a_usage_error(run: Any) -> None:
    result = run("retreive")
    assert result.exit_code == 2
    assert "retrieve" in result.stderr


@pytest.mark.parametrize("command", ["info", "retrieve", "render"])
def test_no_such_memory(run: Any, tmp_path: Path, command: str) -> None:
    more = {"info": [], "retrieve": ["--frame", 0], "render": ["--out", tmp_path / "x.gif"]}
    assert "nothing is there" in one_line(run(command, tmp_path / "none", *more[command]))
    assert not (tmp_path / "none").exists()


def test_a_folder_that_is_no_memory(run: Any, dataset: Path) -> None:
    message = one_line(run("info", dataset))
    assert str(dataset) in message
    assert "no spmem memory" in message


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_lets_the_error_through(run: Any, tmp_path: Path, place: str) -> None:
    words = ["info", tmp_path / "none"]
    result = run(*(["--debug", *words] if place == "before" else [*words, "--debug"]))
    assert isinstance(result.exception, NotAMemoryError)


def test_a_file_that_cannot_be_written_is_one_line(run: Any, memory: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "sheet.png"
    assert str(tmp_path / "file") in one_line(run("retrieve", memory, "--frame", 0, "--out", place))


def test_doctor_says_what_works(run: Any, told: Any) -> None:
    answer = told("doctor")
    found = {one["name"]: one for one in answer["backends"]}
    for name in ("torch", "numba", "zarr", "icechunk"):
        assert found[name]["works"], found[name]
        assert found[name]["version"]
        assert found[name]["install"] is None
    for one in answer["backends"]:
        assert one["works"] or one["install"], one
    assert run("doctor").exit_code == 0


def test_doctor_tells_a_broken_backend_from_a_missing_one(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spmem.cli import doctor
    from spmem.cli.backends import Check

    def broken() -> str:
        raise ImportError("libfoo.so: cannot open")

    checks = (
        Check("broken", ("zarr",), "zarr", "storage", "pip install it", broken),
        Check("missing", ("nope",), "no_such_module", "nothing", "pip install nope", broken),
    )
    monkeypatch.setattr(doctor, "CHECKS", checks)
    result = run("doctor", "--json")
    assert result.exit_code == 0
    one, other = json.loads(result.stdout)["backends"]
    assert "libfoo.so" in one["detail"]
    assert one["version"]
    assert other["detail"] == "not installed"
    assert other["install"] == "pip install nope"


def test_after_warming_nothing_is_compiled_twice(told: Any) -> None:
    from spmem.kernels import fuse_numba

    told("warm")
    kinds = len(fuse_numba.match_bands.signatures)  # type: ignore[attr-defined]
    told("warm")
    assert len(fuse_numba.match_bands.signatures) == kinds >= 2  # type: ignore[attr-defined]
