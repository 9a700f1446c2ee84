"""Records that are not written yet: not encoded, encoded, or refused by the encoder."""

from __future__ import annotations

from spmem.errors import StoreError
from spmem.stores.keyframes.zarr.errors import cause_of
from spmem.stores.keyframes.zarr.record import encode
from spmem.types import Frame

_KEYFRAMES = 8
_BYTES = 1 << 24


class PendingRecords:
    """What a bank has taken and not written, by keyframe id.

    encoded: Records that are to be written; an empty one for a keyframe that was removed before.
    coming: Keyframes that are being encoded.
    refused: Frames that could not be encoded, with the quality that was asked for. They stay in RAM and are tried
        again by the next commit.
    """

    def __init__(self) -> None:
        self.encoded: dict[int, bytes] = {}
        self.coming: set[int] = set()
        self.refused: dict[int, tuple[Frame, int]] = {}

    @property
    def full(self) -> bool:
        """Whether it is time to write."""
        waiting = self.encoded.values()
        return len(waiting) >= _KEYFRAMES or sum(map(len, waiting)) >= _BYTES

    def drop(self, id: int) -> bool:
        """Let a keyframe go; whether it was here."""
        there = id in self.encoded or id in self.refused
        self.refused.pop(id, None)
        if there:
            self.encoded[id] = b""
        return there

    def encode_refused(self) -> dict[int, tuple[bytes, ...]]:
        """The parts of the records that were refused, encoded now. Raises StoreError if one still cannot be."""
        return {id: encode_or_refuse(id, *given) for id, given in list(self.refused.items())}


def encode_or_refuse(id: int, frame: Frame, quality: int) -> tuple[bytes, ...]:
    """The parts of a record. Raises StoreError, which names the keyframe, if it cannot be encoded."""
    try:
        return encode(frame, quality)
    except Exception as error:
        raise refusal(id, error) from error


def refusal(id: int, error: Exception) -> StoreError:
    """The error for a keyframe that cannot be encoded."""
    return StoreError(
        f"keyframe {id} could not be encoded ({cause_of(error)}); it is kept in RAM, and the next commit tries again: "
        f"remove({id}) drops it"
    )
