"""Compiled code on disk holds until a file that it came from changes, its callees' included."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CALLEE = """
from spmem.kernels.jit import njit

@njit()
def twice(x: int) -> int:
    return {factor} * x
"""
CALLER = """
from spmem.kernels.jit import njit
from spmem.kernels.callee import twice

@njit()
def answer(x: int) -> int:
    return twice(x) + 1
"""
MAIN = """
from spmem.kernels.caller import answer
print(answer(20), sum(answer.stats.cache_hits.values()))
"""


def test_a_change_in_a_callee_of_another_file_is_seen(tmp_path: Path) -> None:
    kernels = tmp_path / "spmem/kernels"
    kernels.mkdir(parents=True)
    for folder in (kernels, kernels.parent):
        (folder / "__init__.py").write_text("")
    shutil.copy(ROOT / "spmem/kernels/jit.py", kernels)
    (kernels / "caller.py").write_text(CALLER)

    def run(factor: int) -> list[str]:
        (kernels / "callee.py").write_text(CALLEE.format(factor=factor))
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        environment.pop("NUMBA_CACHE_DIR", None)
        done = subprocess.run(
            [sys.executable, "-c", MAIN], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.split()

    assert run(2) == ["41", "0"]
    assert run(2) == ["41", "1"]  # from the disk
    assert run(3) == ["61", "0"]
    assert run(3) == ["61", "1"]
