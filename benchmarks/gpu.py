"""What runs on a CUDA device: the tests marked for it, the geometry's figures, and its speed there beside the CPU's.

    make gpu                                                  (finds the Python that has CUDA)
    PYTHONPATH=. python benchmarks/gpu.py [--quick] [--json]  (from a bare checkout, nothing installed)

What cannot be imported on that machine is left out, and the table says so: torch is all that is needed, Triton gives the
fast kernels, numba the CPU's side. Ends within 8 minutes; without a CUDA device it says that and ends with 0, and with 1
where a test fails.

- the rows of ``geometry.py --device cuda``: see geometry_cuda.py
- fuse: one 640x480 frame of an analytic room into a map that knows the room; milliseconds, median
- render: 8 views of 640x480; milliseconds a view, median
- agree: share of the rendered pixels whose depth is the CPU's within 0.1 %
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any
from xml.etree import ElementTree

import torch

ROOT = Path(__file__).parents[1]
TEST_SECONDS = 200
WIDTH, HEIGHT, VIEWS = 640, 480, 8

Row = dict[str, str]
Measured = tuple[list[Row], list[dict[str, Any]]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", action="store_true")
    from spmem.evaluation.report import parse_options, print_report

    options = parse_options(parser)
    if not torch.cuda.is_available():
        print(
            f"no CUDA device: torch {torch.__version__} of {sys.executable} finds none; nothing to do"
        )
        if options.json:
            print_report([], [], as_json=True)
        return 0

    tests, failed = run_tests()
    rows, aims = [tests], []
    for what, part in parts(options.quick):
        try:
            more, met = part()
            rows, aims = rows + more, aims + met
        except ImportError as error:
            rows.append(row(what, note=f"left out: {error}"))
        except Exception as error:
            traceback.print_exc()
            rows.append(row(what, note=f"failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"))  # fmt: skip
            failed = True
    print_report(rows, aims, as_json=options.json)
    return 1 if failed else 0


def row(what: str, cuda: str = "", cpu: str = "", note: str = "") -> Row:
    """All rows have the same columns, so that they are one table."""
    return {"what": what, "cuda": cuda, "cpu": cpu, "note": note}


def run_tests() -> tuple[Row, bool]:
    """The tests marked gpu; files that do not import here are left out, any other error is a failure."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--tb=short", "tests"]
        command += [
            "-p",
            "no:cacheprovider",
            "--continue-on-collection-errors",
            f"--junitxml={report}",
        ]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                timeout=TEST_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return row("tests", note=f"not done after {TEST_SECONDS} s"), True
        if not report.exists():
            missing = "No module named pytest" in done.stderr
            said = done.stderr.strip().rpartition("\n")[2]
            return row(
                "tests", note="left out: pytest is not installed" if missing else said
            ), not missing
        cases = list(ElementTree.parse(report).iter("testcase"))
    broken = [case for case in cases if case.find("error") is not None]
    missing = [
        re.search(r"No module named '([\w.]+)'", ElementTree.tostring(case, "unicode"))
        for case in broken
    ]
    packages = sorted({found[1] for found in missing if found})
    failed = [case for case in cases if case.find("failure") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    errors = missing.count(None)
    passed = len(cases) - len(broken) - len(failed) - len(skipped)
    counts = f"{passed} passed, {len(failed) + errors} failed, {len(skipped)} skipped"
    left_out = f"left out: {len(broken) - errors} files that need {', '.join(packages)}"
    if failed or errors:
        sys.stderr.write(done.stdout)
    return row("tests", cuda=counts, note=left_out if packages else ""), bool(failed or errors)


def parts(quick: bool) -> list[tuple[str, Callable[[], Measured]]]:
    """What is measured, by name; a part that fails leaves the others alone."""

    def geometry(name: str) -> Measured:
        import geometry_cuda
        from bandwidth import copy_bandwidth

        result: Measured = getattr(geometry_cuda, name)(quick, copy_bandwidth("cuda"))
        return result

    functions = {"fusing": "fusing", "rendering": "drawing", "worlds": "many_worlds"}
    return [
        *((what, partial(geometry, name)) for what, name in functions.items()),
        ("beside the CPU", lambda: (map_speed(4 if quick else 16), [])),
    ]


def map_speed(repeats: int) -> list[Row]:
    """Fusing and rendering on both devices, and whether they agree."""
    from spmem.stores.maps.surfels import SurfelMap
    from spmem.testing.box import BoxRoom

    room, fused, rendered, depth = BoxRoom(), {}, {}, {}
    cameras = room.walk(VIEWS, width=WIDTH, height=HEIGHT)
    for device in ("cpu", "cuda"):
        surfels = SurfelMap()
        frames = [frame.to(device) for frame in room.frames(cameras)]
        views = cameras.to(device)
        for frame in frames:
            surfels.fuse(frame)
        fused[device] = milliseconds(lambda m=surfels, f=frames[0]: m.fuse(f), device, repeats)
        rendered[device] = (
            milliseconds(lambda m=surfels, v=views: m.render(v), device, repeats) / VIEWS
        )
        depth[device] = surfels.render(views).depth.cpu()
    same = ((depth["cuda"] - depth["cpu"]).abs() <= 1e-3 * depth["cpu"]).float().mean()
    return [
        row("fuse, ms", f"{fused['cuda']:.2f}", f"{fused['cpu']:.2f}", f"{len(surfels)} surfels"),
        row("render, ms a view", f"{rendered['cuda']:.2f}", f"{rendered['cpu']:.2f}"),
        row("agree, share", f"{float(same):.4f}", "1"),
    ]


def milliseconds(call: Callable[[], Any], device: str, repeats: int) -> float:
    """Median time of a call, finished on the device; the first two calls do not count."""
    times = []
    for _ in range(2 + repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        start = perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(1e3 * (perf_counter() - start))
    return median(times[2:])


if __name__ == "__main__":
    sys.exit(main())
