"""Is a stored memory whole? Every flaw is named; what the keyframes can make again is mended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from spmem import checkpoint
from spmem.camera import Camera
from spmem.config import MemoryConfig
from spmem.errors import SpmemError
from spmem.protocols import KeyframeStore, PartContext
from spmem.state import State, every_part
from spmem.types import Frame
from spmem.views import Views


@dataclass(frozen=True)
class Flaw:
    """Something that does not hold.

    part: ``keyframe``, or the name of the group that it is in.
    keyframe: Its id, if it is a keyframe.
    problem: In words.
    derivable: Whether :func:`repair` mends it: a part is made again from the keyframes, or begins empty.
    """

    part: str
    keyframe: int | None
    problem: str
    derivable: bool


def flaws(bank: KeyframeStore) -> Iterator[Flaw | None]:
    """Check every keyframe and every part of a bank; after each, its flaw or None.

    Keyframes decode (their bytes carry checksums), their cameras are cameras, their depth is finite. The configuration
    is readable. Each part that is kept says whether its group fits together and is of these keyframes
    (:meth:`spmem.protocols.Part.verify`).
    """
    views = Views()
    for id, camera, time in zip(bank.ids().tolist(), bank.cameras(), bank.times(), strict=True):
        problem = None
        try:
            Camera(camera.K, camera.c2w, width=camera.width, height=camera.height)
            frame = bank.read(id)
            problem = _problem(frame, float(time))
            views.append(id, float(time), frame.camera, frame.believed_depth().numpy())
        except SpmemError as error:
            problem = str(error)
        yield None if problem is None else Flaw("keyframe", id, problem, False)
    config, problem = MemoryConfig(), None
    try:
        config = checkpoint.stored_config(bank) or config
    except SpmemError as error:
        problem = str(error)
    yield None if problem is None else Flaw(checkpoint.CONFIG, None, problem, False)
    context = PartContext(config=config, bank=bank, views=views, device=torch.device("cpu"))
    for part in every_part(context, checkpoint.stored_parts(bank)):
        try:
            kept = bank.read_arrays(part.name)
            problem = part.verify(kept) if kept is not None and kept[0] else None
        except (SpmemError, *checkpoint.WRONG) as error:
            problem = str(error)
        yield None if problem is None else Flaw(part.name, None, problem, True)


def repair(bank: KeyframeStore, found: list[Flaw]) -> list[Flaw]:
    """Make again what can be; durable with the bank's next commit. Returns the flaws that stay.

    A damaged map is fused again from the keyframes, without frames that did not become keyframes; a damaged working
    memory begins empty.

    Raises:
        CorruptMemoryError: A keyframe that is needed for it is damaged; do not commit then.
    """
    for name in {flaw.part for flaw in found if flaw.derivable}:
        bank.write_arrays(name, {}, {})
    left = [flaw for flaw in found if not flaw.derivable]
    if len(left) < len(found):
        State(bank).save()
    return left


def _problem(frame: Frame, time: float) -> str | None:
    assert frame.depth is not None
    if not np.isfinite(time):
        return f"its time is {time}"
    if not bool(torch.isfinite(frame.depth).all()) or bool((frame.depth < 0).any()):
        return "its depth is not finite, or negative"
    return None
