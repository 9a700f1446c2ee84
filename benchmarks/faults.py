"""What a memory survives: killed writers, full disks, flipped bytes, truncated, missing and swapped files.

    python benchmarks/faults.py [--quick] [--json] [--only kills full damage]

Every trial ends with a memory that is opened again and compared, keyframe by keyframe and group by group, with what was stored.
Full disks need a file system of their own, which a user namespace mounts (Linux); without one that part is left out.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

import spmem
from spmem.errors import SpmemError, StoreError
from spmem.evaluation.report import aim, parse_options, print_report
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.sample_frames import sample_frame
from spmem.verification import flaws

WIDTH, HEIGHT = 96, 72
CONFIG = spmem.MemoryConfig(
    check_poses=False, keyframes=spmem.KeyframeConfig(novelty=0.0, commit_every=2)
)
GROUPS = ("geometry", "views", "free", "recent", "config")


def frame(number: int) -> spmem.Frame:
    """The frame that keyframe ``number`` is made of."""
    return sample_frame(number, width=WIDTH, height=HEIGHT)


# -- killed writers -----------------------------------------------------------------------------------


def write(path: Path, connection: Connection) -> None:
    """Store without end and commit now and then; send how many keyframes each finished commit holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        memory = spmem.open(path, config=CONFIG)
        count = len(memory.keyframes)
        connection.send(count)
        while True:
            memory.store(frame(count))
            count += 1
            if count % 5 == 0:
                memory.commit(f"{count}")
                connection.send(count)


def kill_writers(trials: int) -> dict[str, Any]:
    """Kill a writer at random moments, again and again on one memory (a new one each 20 trials)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["spmem.stores.keyframes", "spmem.testing.sample_frames"])
    chance, seen = random.Random(0), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walk.spmem"
        for trial in track(range(trials), "killing writers", transient=True):
            if trial % 20 == 0:
                shutil.rmtree(path, ignore_errors=True)
            connection, sender = context.Pipe(duplex=False)
            child = context.Process(target=write, args=(path, sender), daemon=True)
            child.start()
            sender.close()
            acknowledged = connection.recv()
            deadline = chance.uniform(0.0, 1.0)
            child.join(deadline)
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            while connection.poll():
                try:
                    acknowledged = connection.recv()
                except EOFError:
                    break
            seen.update(_after_a_kill(path, acknowledged))
    return {"fault": "kill -9 while storing", "trials": trials} | dict(seen)


def _after_a_kill(path: Path, acknowledged: int) -> Counter[str]:
    try:
        with spmem.open(path, mode="r") as memory:
            ids = list(memory.keyframes)
            if len(ids) < acknowledged:
                return Counter({"lost": 1})
            if ids != list(range(len(ids))):
                return Counter({"wrong": 1})
            for id in ids[-12:]:
                if not _is_same_frame(memory.keyframes[id].frame, id):
                    return Counter({"wrong": 1})
            _, observers = memory.geometry.observers(memory.geometry.surfels().ids)
            if len(ids) and set(observers.tolist()) - set(ids):
                return Counter({"wrong": 1})
        bank = ZarrKeyframes.open(path, "r")
        bad = [flaw for flaw in flaws(bank) if flaw is not None]
        bank.close()
        return Counter({"wrong" if bad else "whole": 1})
    except SpmemError:
        return Counter({"does not open": 1})


def _is_same_frame(read: spmem.Frame, number: int) -> bool:
    original = frame(number)
    assert read.depth is not None
    assert original.depth is not None
    near = torch.allclose(read.depth, original.depth, rtol=1e-3, atol=0)
    colour = (read.rgb_float() - original.rgb_float()).abs().mean() < 0.02
    return bool(near and colour and torch.equal(read.camera.c2w, original.camera.c2w))


# -- full disks ---------------------------------------------------------------------------------------


def fill_disk(trials: int) -> dict[str, Any] | None:
    """Fill the disk after a random number of bytes; make room; go on. None where no disk of one's own can be had."""
    context = multiprocessing.get_context("forkserver")
    connection, sender = context.Pipe(duplex=False)
    child = context.Process(target=_fill_disks, args=(trials, sender))
    child.start()
    sender.close()
    try:
        found: dict[str, int] | None = connection.recv()
    except EOFError:
        found = {"does not open": trials}
    child.join()
    return None if found is None else {"fault": "disk full while storing", "trials": trials} | found


def _fill_disks(trials: int, connection: Connection) -> None:
    place = Path(tempfile.mkdtemp())
    if not _mount_small_disk(place):
        connection.send(None)
        return
    chance, seen = random.Random(1), Counter[str]()
    for _ in range(trials):
        seen[_one_full_disk(place, chance)] += 1
        for entry in place.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    connection.send(dict(seen))


def _mount_small_disk(place: Path) -> bool:
    """Mount 32 MB at ``place``, in a name space of this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, mounts = 0x10000000, 0x00020000  # CLONE_NEWUSER, CLONE_NEWNS
    if libc.unshare(mounts if os.geteuid() == 0 else user | mounts):
        return False
    private = 1 << 18 | 1 << 14  # MS_PRIVATE | MS_REC: others do not see it
    libc.mount(b"none", b"/", None, private, None)
    return not libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", 0, b"size=32m")


def _one_full_disk(place: Path, chance: random.Random) -> str:
    path, ballast = place / "walk.spmem", place / "ballast"
    memory = spmem.open(path, config=CONFIG)
    for number in range(4):
        memory.store(frame(number))
    memory.commit("before")
    free = os.statvfs(place)
    room = int(10 ** chance.uniform(3, 6))
    ballast.write_bytes(b"\0" * max(0, free.f_bavail * free.f_frsize - room))
    number, failed = 4, False
    for _ in range(400):
        try:
            if memory.store(frame(number)) is not None:
                number += 1
            if number % 7 == 0:
                memory.commit(f"{number}")
        except StoreError as error:
            if "space" not in str(error):
                return "unclear error"
            failed = True
            break
    if not failed:
        return "never full"
    with spmem.open(path, mode="r") as reader:
        if not all(_is_same_frame(reader.keyframes[id].frame, id) for id in reader.keyframes):
            return "wrong"
    ballast.unlink()
    memory.commit("after")  # as the error says
    contents = list(memory.keyframes)
    memory.store(frame(number))
    memory.close()
    with spmem.open(path, mode="r") as reader:
        kept = list(reader.keyframes)
        if kept[: len(contents)] != contents:
            return "lost"
        return (
            "whole"
            if all(_is_same_frame(reader.keyframes[i].frame, i) for i in contents)
            else "wrong"
        )


# -- damaged folders ----------------------------------------------------------------------------------


def flip(file: Path, chance: random.Random) -> None:
    """Another value for one random byte."""
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
    file.write_bytes(content)


def truncate(file: Path, chance: random.Random) -> None:
    """Only a beginning is left."""
    content = file.read_bytes()
    file.write_bytes(content[: chance.randrange(len(content))])


def unlink(file: Path, chance: random.Random) -> None:
    """The file is gone."""
    file.unlink()


def swap(file: Path, chance: random.Random) -> None:
    """Another file of the same folder is in its place."""
    others = [other for other in file.parent.iterdir() if other != file and other.is_file()]
    if others:
        file.write_bytes(chance.choice(others).read_bytes())


def damage(kind: Callable[[Path, random.Random], None], trials: int) -> dict[str, Any]:
    """Do it to random files of a memory, one at a time."""
    chance, seen = random.Random(2), Counter[str]()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path, copy = Path(folder) / "walk.spmem", Path(folder) / "damaged.spmem"
        with spmem.open(path, config=CONFIG) as memory:
            for number in range(12):
                memory.store(frame(number))
            memory.commit("walk")
            memory.tag("walk")
            memory.retrieve(frame(3).camera)
        truth = _read_contents(path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        for _ in track(range(trials), f"{kind.__name__}", transient=True):
            shutil.copytree(path, copy)
            kind(copy / chance.choice(files).relative_to(path), chance)
            seen[_after_damage(copy, truth)] += 1
            shutil.rmtree(copy)
    return {"fault": f"{kind.__name__} a file", "trials": trials} | dict(seen)


def _read_contents(path: Path) -> dict[str, Any]:
    """Everything that a memory holds, exactly; an error in place of what cannot be read."""
    bank = ZarrKeyframes.open(path, "r")
    contents: dict[str, Any] = {"ids": bank.ids().tolist(), "times": bank.times().tolist()}
    for id, camera in zip(contents["ids"], bank.cameras(), strict=True):
        contents[f"pose {id}"] = camera.c2w.numpy().tobytes() + camera.K.numpy().tobytes()
        try:
            read = bank.read(id)
            contents[f"keyframe {id}"] = (
                read.rgb.numpy().tobytes() + np.asarray(read.depth).tobytes()
            )
        except SpmemError as error:
            contents[f"keyframe {id}"] = error
    for group in GROUPS:
        try:
            found = bank.read_arrays(group)
            contents[group] = found and {n: a.tobytes() for n, a in found[0].items()} | found[1]
        except SpmemError as error:
            contents[group] = error
    bank.close()
    return contents


def _after_damage(path: Path, truth: dict[str, Any]) -> str:
    try:
        contents = _read_contents(path)
    except SpmemError:
        return "refused to open"
    except Exception:  # what the benchmark is there to find
        return "undocumented error"
    answer = "harmless"
    for name, value in truth.items():
        if isinstance(contents.get(name), SpmemError):
            answer = "error that names it"
            if name.split()[-1] not in str(contents[name]):
                return "error that names nothing"
        elif contents.get(name) != value:
            return "silently wrong"
    return answer


# -- telling ------------------------------------------------------------------------------------------


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="under a minute, for a look")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--only", nargs="+", choices=["kills", "full", "damage"], default=[])
    options = parse_options(parser)
    parts = options.only or ["kills", "full", "damage"]
    rows: list[dict[str, Any]] = []
    if "kills" in parts:
        rows.append(kill_writers(10 if options.quick else 200))
    if "full" in parts:
        found = fill_disk(5 if options.quick else 50)
        rows += [] if found is None else [found]
    if "damage" in parts:
        for kind in (flip, truncate, unlink, swap):
            many = 200 if kind is flip else 50
            rows.append(damage(kind, many // 10 if options.quick else many))
    bad = (
        "lost",
        "wrong",
        "does not open",
        "unclear error",
        "silently wrong",
        "undocumented error",
    )
    worst = [sum(row.get(name, 0) for name in (*bad, "error that names nothing")) for row in rows]
    aims = [
        aim(f"{row['fault']}: lost, wrong or unclear", count, 0, "trials", "lower")
        for row, count in zip(rows, worst, strict=True)
    ]
    print_report(rows, aims, as_json=options.json)


if __name__ == "__main__":
    main()
