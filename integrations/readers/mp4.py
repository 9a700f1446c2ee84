"""What an MP4 or QuickTime file claims to hold, held against its size before FFmpeg makes an index of it.

ISO/IEC 14496-12. FFmpeg keeps 24 bytes for each frame that a table claims, and a table of frames of one size claims as many as
it likes in 20 bytes; edits repeat the whole index.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

from spmem.errors import FormatError
from spmem.integrations.readers.files import DataPath, size_of

FRAMES_A_BYTE = 4
"""Most frames of all tracks that each byte of the file may claim; old sound formats count more than one."""
EDITED_FRAMES = 1 << 25
"""Most entries of an index that edits may make."""

_EDITS_AS_USUAL = 2
_TABLES = re.compile(rb"stsz|stz2|trun|elst|cmov")


def check_claims(path: DataPath, file: BinaryIO) -> None:
    """Raise FormatError if the file claims more frames than its bytes can be."""
    size = size_of(file)
    if not size:
        return  # nothing is mapped
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        frames = edits = 0
        for start, end in _headers(content):
            for found in _TABLES.finditer(content, start, end):
                kind, body = found[0], content[found.end() : found.end() + 12]
                if kind == b"cmov":
                    raise FormatError(path, "has a compressed header, whose size nobody can check")
                count = _count(kind, body)
                if kind == b"elst":
                    edits += max(count - _EDITS_AS_USUAL, 0)
                else:
                    frames += count
    if frames > FRAMES_A_BYTE * size:
        raise FormatError(path, f"claims {frames:,} frames, and has {size:,} bytes")
    if edits * frames > EDITED_FRAMES:
        raise FormatError(path, f"claims {edits:,} edits of {frames:,} frames")


def _headers(content: mmap.mmap) -> Iterator[tuple[int, int]]:
    """Where the boxes at the top level begin and end, but those of coded frames."""
    start, size = 0, len(content)
    while start + 8 <= size:
        length, kind = struct.unpack_from(">I4s", content, start)
        if length == 1 and start + 16 <= size:
            (length,) = struct.unpack_from(">Q", content, start + 8)
        end = size if length == 0 else min(start + length, size)
        if kind != b"mdat":
            yield start, end
        if end <= start + 7:
            return
        start = end


def _count(kind: bytes, body: bytes) -> int:
    """Frames or edits that a table claims; flags lie before its count."""
    if len(body) < 12:
        return 0
    _, first, second = struct.unpack(">III", body)
    return int(second if kind in (b"stsz", b"stz2") else first)
