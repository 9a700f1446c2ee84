"""What every benchmark prints: its environment, its rows, and the figures that were asked for."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spmem.evaluation.printing import divert_stdout, print_json

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, where spmem runs from one."""
PACKAGES = ("torch", "numpy", "numba", "zarr", "icechunk", "faiss-cpu", "pillow")


def walks_folder() -> Path:
    """Where the real walks are: ``SPMEM_TEST_DATA``, or beside the checkout."""
    return Path(os.environ.get("SPMEM_TEST_DATA", ROOT.parent / "shared" / "data"))


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    models = [line.split(":")[1].strip() for line in lines if "model name" in line]
    commit = None
    if (ROOT / "pyproject.toml").exists():
        git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or None
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit,
    }


def aim(name: str, value: float, target: float, unit: str, better: str) -> dict[str, Any]:
    """A figure that was asked for; ``better`` is higher or lower."""
    ok = value >= target if better == "higher" else value <= target
    return {
        "name": name,
        "value": value,
        "target": target,
        "unit": unit,
        "better": better,
        "ok": ok,
    }


def error_of_mean(values: Sequence[float]) -> float:
    """The standard error of the mean; NaN for fewer than two values."""
    return float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else math.nan


def mean_and_error(values: Sequence[float]) -> str:
    """Mean and its standard error.

    Example:
        >>> mean_and_error([1.0, 2.0, 3.0]), mean_and_error([0.5])
        ('2.000 ± 0.577', '0.500')
    """
    error = f" ± {error_of_mean(values):.3f}" if len(values) > 1 else ""
    return f"{round(float(np.mean(values)), 3) + 0.0:.3f}{error}"  # no -0.000


def tables(rows: Sequence[dict[str, Any]]) -> list[tuple[tuple[str, ...], list[list[str]]]]:
    """Head and cells of one table for all rows of the same columns, in the order in which they come.

    Example:
        >>> tables([{"a": 1}, {"b": 2, "c": 3}, {"a": 4}])
        [(('a',), [['1'], ['4']]), (('b', 'c'), [['2', '3']])]
    """
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append([str(value) for value in row.values()])
    return list(groups.items())


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The same tables for a page.

    Example:
        >>> print(markdown([{"rule": "recent", "coverage": 0.5}]), end="")
        | rule | coverage |
        |---|---|
        | recent | 0.5 |
    """
    parts = []
    for head, cells in tables(rows):
        lines = [head, *cells]
        text = ["| " + " | ".join(line) + " |\n" for line in lines]
        text.insert(1, "|" + "---|" * len(head) + "\n")
        parts.append("".join(text))
    return "\n".join(parts)


def parse_options(parser: ArgumentParser) -> Namespace:
    """Parse a benchmark's options. With ``--json`` all that is printed, but for the report, goes to standard error."""
    options = parser.parse_args()
    if getattr(options, "json", False):
        divert_stdout()  # until the process ends, as some native code prints then
    return options


def print_report(rows: list[dict[str, Any]], aims: list[dict[str, Any]], *, as_json: bool) -> None:
    """One JSON object, or the same as tables (rows of the same columns together)."""
    result = {"environment": environment(), "rows": rows, "aims": aims}
    if as_json:
        print_json(result)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(width=160)
    console.print(result["environment"])
    for head, cells in tables([*rows, *aims]):
        table = Table(*head)
        for line in cells:
            table.add_row(*line)
        console.print(table)
