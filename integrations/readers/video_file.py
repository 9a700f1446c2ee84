"""A video file as numbered frames, decoded by PyAV when asked for."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from spmem.errors import FormatError, MissingExtraError
from spmem.integrations.readers.files import DataPath
from spmem.integrations.readers.mp4 import check_claims
from spmem.integrations.readers.pixels import PIXELS, too_large

_READ_ON = 32
"""So many frames ahead are reached by decoding on; a seek goes back to a keyframe and decodes as much."""

_LIMITS = {"max_pixels": str(PIXELS)}
_MAGIC = {b"\x1aE\xdf\xa3": "matroska,webm", b"RIFF": "avi"}
_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"


class VideoFile:
    """The frames of a video file by number: decoded on in sequence, else after a seek.

    One decoder, guarded by a lock, so that threads may share it.
    FFmpeg gets the open file and one demuxer: playlists and scripts, which it would follow to other files and addresses, are
    not among them.

    Raises FormatError if the file is missing, no video, broken, or claims more frames or pixels than can be;
    MissingExtraError without PyAV.
    """

    def __init__(self, path: str | Path | DataPath) -> None:
        try:
            import av
            from av.error import FFmpegError
        except ImportError as error:
            raise MissingExtraError("av", "formats", "reading a video") from error
        place = DataPath.named(path)
        self._path, self._broken = place, FFmpegError
        self._lock = threading.Lock()
        file = place.open()
        weakref.finalize(self, file.close)
        try:
            options = {"format_whitelist": _demuxer(place, file), **_LIMITS}
            # Titles are read too, and nobody has promised that they are UTF-8.
            self._container = av.open(file, "r", options=options, metadata_errors="replace")
            if not self._container.streams.video:
                raise FormatError(place, "has no video stream")
            self._stream = self._container.streams.video[0]
            if self._stream.codec_context is None:
                raise FormatError(place, "is of a codec that nothing here decodes")
            if self._stream.width * self._stream.height > PIXELS:
                raise FormatError(place, too_large(self._stream.width, self._stream.height))
            self._stream.codec_context.options = _LIMITS
            self._stream.thread_type = "AUTO"
            packets = self._container.demux(self._stream)
            found = [p.pts for p in packets if p.pts is not None and not p.is_discard]
        except FFmpegError as error:
            raise FormatError(place, f"is not a readable video: {error}") from error
        self._size = (self._stream.width, self._stream.height)
        if not found:
            raise FormatError(place, "holds no video frames")
        self._pts: NDArray[np.int64] = np.unique(np.array(found, np.int64))
        self._tick = float(self._stream.time_base or 0)
        self._next = -1  # the frame that the decoder gives next; -1: it stands nowhere
        self._decoded: Iterator[Any] = iter(())

    def __len__(self) -> int:
        return len(self._pts)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._size

    @property
    def times(self) -> NDArray[np.float64]:
        """[n] seconds since the first frame."""
        return np.asarray((self._pts - self._pts[0]) * self._tick, np.float64)

    def rgb(self, index: int) -> UInt8[Tensor, "h w 3"]:
        """Decode one frame. Raises FormatError where the video breaks off before it."""
        with self._lock:
            try:
                frame = self._reach(index)
            except self._broken as error:
                raise FormatError(
                    self._path, f"frame {index} cannot be decoded: {error}"
                ) from error
            if frame is None:
                raise FormatError(self._path, f"breaks off before frame {index}")
            if (frame.width, frame.height) != self._size:
                raise FormatError(
                    self._path,
                    f"frame {index} is {frame.width}x{frame.height}, the video {self._size[0]}x{self._size[1]}",
                )
            return torch.from_numpy(frame.to_ndarray(format="rgb24"))

    def _reach(self, index: int) -> Any:
        if 0 <= self._next <= index <= self._next + _READ_ON:
            return self._decode_on(index)
        back = 0
        while True:
            start = max(index - back, 0)
            self._seek(start)
            frame = self._decode_on(index)
            if frame is not None or start == 0:
                return frame
            # An open group of pictures: the frame needs the keyframe before the one that was sought.
            back = 4 * back or 16

    def _seek(self, index: int) -> None:
        self._container.seek(int(self._pts[index]), stream=self._stream)
        self._decoded = self._container.decode(self._stream)

    def _decode_on(self, index: int) -> Any:
        self._next = -1
        for frame in self._decoded:
            if frame.pts is not None and frame.pts >= self._pts[index]:
                if frame.pts != self._pts[index]:
                    return None
                self._next = index + 1
                return frame
        return None


def _demuxer(path: DataPath, file: BinaryIO) -> str:
    """What FFmpeg may take the file for, by its first bytes."""
    magic = file.read(4)
    file.seek(0)
    if magic in _MAGIC:
        return _MAGIC[magic]
    check_claims(path, file)
    return _MP4
