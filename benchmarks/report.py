"""What every benchmark prints: its environment, its rows, and the figures that were asked for."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "numpy", "numba", "zarr", "icechunk", "faiss-cpu", "pillow")


def walks_folder() -> Path:
    """Where the real walks are."""
    return Path(os.environ.get("SPMEM_TEST_DATA", ROOT.parent / "shared" / "data"))


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    models = [line.split(":")[1].strip() for line in lines if "model name" in line]
    git = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
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
        "commit": git.stdout.strip() or None,
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


def mean_and_error(values: list[float]) -> str:
    """Mean and its standard error."""
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{np.mean(values):.3f} ± {error:.3f}"


def tell(rows: list[dict[str, Any]], aims: list[dict[str, Any]], *, as_json: bool) -> None:
    """One JSON object, or the same as tables (rows of the same columns together)."""
    result = {"environment": environment(), "rows": rows, "aims": aims}
    if as_json:
        print(json.dumps(result))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(width=160)
    console.print(result["environment"])
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in [*rows, *aims]:
        groups.setdefault(tuple(row), []).append(row)
    for names, group in groups.items():
        table = Table(*names)
        for row in group:
            table.add_row(*(str(row[name]) for name in names))
        console.print(table)
