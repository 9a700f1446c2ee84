"""Frames as a video file, by PyAV."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spmem.errors import InputError, MissingExtraError
from spmem.types import Frame

CRF = 16
"""Of H.264. Frames of a procedural house, 320x240, came back off by 3.1 of 255 on average, the halved colour included."""


class Codec(NamedTuple):
    """An encoder's name, pixel format and options."""

    name: str
    pixels: str
    options: dict[str, str]


LOSSY = Codec("libx264", "yuv420p", {"crf": str(CRF), "preset": "medium"})
"""What every player reads."""
LOSSLESS = Codec("libx264rgb", "rgb24", {"crf": "0", "preset": "medium"})
"""Exact, in H.264's 4:4:4 predictive profile: ffmpeg and PyAV read it, many players do not."""


def check_even(frame: Frame) -> None:
    """Raises InputError where half the colour resolution has no whole number of pixels."""
    if frame.camera.width % 2 or frame.camera.height % 2:
        raise InputError(
            f"frames are {frame.camera.width}x{frame.camera.height}; H.264 wants an even width and height: "
            "crop the images and move the principal point with them"
        )


def encode(
    path: Path, frames: Iterable[Frame], *, fps: float, lossless: bool = False, gop: int = 12
) -> int:
    """Write frames as MP4, evenly spaced; returns their number.

    Colour is converted by BT.601 (limited range), which is what decoders take where the stream says nothing.

    Raises:
        InputError: Sizes that differ or are odd, no frame.
        MissingExtraError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av", "formats", "writing a video") from error
    codec, count = LOSSLESS if lossless else LOSSY, 0
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = None
        for count, frame in enumerate(frames, start=1):
            size = (frame.camera.width, frame.camera.height)
            if stream is None:
                check_even(frame)
                stream = container.add_stream(codec.name, rate=rate, options=codec.options)
                stream.width, stream.height = size
                stream.pix_fmt = codec.pixels
                stream.codec_context.gop_size = gop
                stream.codec_context.max_b_frames = 0
                stream.time_base = 1 / rate
            elif size != (stream.width, stream.height):
                raise InputError(
                    f"a video has one size: {stream.width}x{stream.height}, and then {size[0]}x{size[1]}"
                )
            picture = av.VideoFrame.from_ndarray(_rgb(frame), format="rgb24")
            picture.pts, picture.time_base = count - 1, 1 / rate
            container.mux(stream.encode(picture))
        if stream is None:
            raise InputError("a video needs at least one frame")
        container.mux(stream.encode())
    return count


def _rgb(frame: Frame) -> NDArray[np.uint8]:
    return np.ascontiguousarray(frame.rgb_uint8().cpu().numpy())
