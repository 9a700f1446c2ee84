"""``spmem doctor``: which backends this machine really has."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from spmem.cli.backends import CHECKS, BackendUnavailable, Check
from spmem.cli.shell import Json
from spmem.evaluation.printing import print_json


def doctor(as_json: Json = False) -> None:
    """Show versions, and which backends really work on this machine."""
    from spmem import __version__

    found = [_examine_backend(check) for check in CHECKS]
    machine = {
        "spmem": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "executable": sys.executable,
    }
    if as_json:
        print_json(machine | {"backends": found})
    else:
        _print_backends(machine, found)


def _examine_backend(check: Check) -> dict[str, Any]:
    report = {"name": check.name, "version": None, "works": False, "purpose": check.purpose}
    if find_spec(check.module) is None:
        return report | {"detail": "not installed", "install": check.install}
    report["version"] = _find_version(check)
    try:
        return report | {"works": True, "detail": check.work(), "install": None}
    except BackendUnavailable as error:
        detail = str(error)
    except Exception as error:  # whatever a broken installation does, it is reported and not raised
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return report | {"detail": detail, "install": check.install}


def _find_version(check: Check) -> str | None:
    for name in check.distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _print_backends(machine: dict[str, str], found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console.print(
        f"spmem {machine['spmem']}, Python {machine['python']}, {machine['system']}\n"
        f"{machine['executable']}\n",
        highlight=False,
    )
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for one in found:
        sign = "[green]yes[/]" if one["works"] else "[yellow]no[/]"
        detail = f"{one['purpose']}: {one['detail']}"
        if one["install"]:
            detail += f"; {one['install']}"
        table.add_row(sign, one["name"], one["version"] or "", escape(detail))
    console.print(table)
