"""``--json`` prints one JSON object on standard output and nothing else, whatever else is printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import typer
from click.testing import CliRunner

from spmem.cli import app
from spmem.evaluation.printing import print_json

ROOT = Path(__file__).resolve().parents[2]


def commands(group: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The names of all commands."""
    for word, one in group.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, (*name, word))
        else:
            yield (*name, word)


def found(group: Any, name: tuple[str, ...]) -> Any:
    for word in name:
        group = group.commands[word]
    return group


@pytest.mark.parametrize("name", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_a_command_prints_one_object_and_nothing_else(
    name: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    program = typer.main.get_command(app)
    command = found(program, name)
    words = list(name)
    for parameter in command.params:
        if parameter.required:
            words += [*parameter.opts[:1], "x"] if parameter.param_type_name == "option" else ["x"]

    def noisy(**given: Any) -> None:
        print("said by Python")
        os.write(1, b"said by native code\n")
        print_json({"command": list(name), "far": float("inf")})
        os.write(1, b"said at the end\n")

    with patch.object(command, "callback", noisy):
        result = CliRunner().invoke(program, [*words, "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {"command": list(name), "far": None}
    there = capfd.readouterr()
    assert "native" not in there.out
    assert "said by native code\nsaid at the end\n" in there.err
    os.write(1, b"back\n")
    assert capfd.readouterr().out == "back\n"


SCRIPT = """
    import argparse, atexit, ctypes, os, sys
    from spmem.evaluation.report import parse_options, print_report

    C = ctypes.CDLL(None)
    atexit.register(lambda: os.write(1, b"native, as the process ends\\n"))
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    options = parse_options(parser)
    print("Python")
    os.write(1, b"native\\n")
    C.printf(b"native, held back by C until the end\\n")
    print_report([{"row": 1}], [], as_json=options.json)
    print("Python, after")
"""


@pytest.mark.skipif(os.name != "posix", reason="printf of the C library, as POSIX names it")
def test_a_benchmark_prints_one_object_and_nothing_else() -> None:
    script = textwrap.dedent(SCRIPT)
    command = [sys.executable, "-c", script]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["rows"] == [{"row": 1}]
    for said in ("Python", "native", "held back by C", "as the process ends", "Python, after"):
        assert said in done.stderr
    plain = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "native" in plain.stdout
    assert "Python" in plain.stdout


def test_every_benchmark_takes_its_options_by_the_one_way() -> None:
    scripts = [path for path in (ROOT / "benchmarks").glob("*.py") if '"--json"' in path.read_text()]  # fmt: skip
    assert len(scripts) > 15
    assert [path.name for path in scripts if ".parse_args(" in path.read_text()] == []
