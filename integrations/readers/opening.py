"""Opening a data set of any known format."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spmem.errors import FormatError, InputError, UnknownNameError
from spmem.integrations.readers import (
    colmap,
    folders,
    lerobot,
    nerfstudio,
    realestate10k,
    seven_scenes,
    tum,
    video,
)
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.walk import Walk


@dataclass(frozen=True)
class Format:
    """A layout of files: how it is recognised, by what sign, and what opens it."""

    fits: Callable[[DataPath], bool]
    sign: str
    open: Callable[..., Walk]


FORMATS = {
    "lerobot": Format(lerobot.fits, lerobot.SIGN, lerobot.open_lerobot),
    "7scenes": Format(seven_scenes.fits, seven_scenes.SIGN, seven_scenes.open_7scenes),
    "tum": Format(tum.fits, tum.SIGN, tum.open_tum),
    "nerfstudio": Format(nerfstudio.fits, nerfstudio.SIGN, nerfstudio.open_nerfstudio),
    "colmap": Format(colmap.fits, colmap.SIGN, colmap.open_colmap),
    "folders": Format(folders.fits, folders.SIGN, folders.open_folders),
    "video": Format(video.fits, video.SIGN, video.open_video),
    "realestate10k": Format(
        realestate10k.fits, realestate10k.SIGN, realestate10k.open_realestate10k
    ),
}
"""In the order in which they are tried; name the format where two of them fit."""


def open_walk(path: str | Path, format: str | None = None, **options: Any) -> Walk:
    """Open a data set of posed frames; nothing but poses, lists and image headers is read.

    Args:
        path: A folder or a file, as the format has it.
        format: ``7scenes``, ``tum``, ``nerfstudio``, ``colmap``, ``realestate10k``, ``lerobot``, ``folders`` or
            ``video``;
            None takes the first that fits what lies there.
        options: The format's own, as its ``open_…`` function lists them.

    Raises:
        FormatError: Nothing there, no format fits, or a file of the format is missing or wrong (named).
        UnknownNameError: There is no such format.
        InputError: The format has no such option.
        MissingExtraError: The format's package is not installed.
    """
    if not os.path.exists(path):
        raise FormatError(path, "does not exist")
    name = detect_format(path) if format is None else format
    if name not in FORMATS:
        raise UnknownNameError("data set format", name, FORMATS)
    opener = FORMATS[name].open
    known = list(inspect.signature(opener).parameters)[1:]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(f"{name} has no option {', '.join(unknown)}; it takes {', '.join(known)}")
    return opener(path, **options)


def detect_format(path: str | Path) -> str:
    """The name of the first format that fits. Raises FormatError saying what was looked for."""
    place = DataPath.named(path)
    for name, format in FORMATS.items():
        if format.fits(place):
            return name
    looked = "; ".join(f"{name}: {format.sign}" for name, format in FORMATS.items())
    raise FormatError(place, f"is of no known format; looked for {looked}")
