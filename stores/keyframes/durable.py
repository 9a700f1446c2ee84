"""The keyframe bank on disk: Zarr v3 arrays in an Icechunk repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import zarr
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.config import KeyframeConfig
from spmem.errors import (
    CorruptMemoryError,
    InputError,
    KeyframeNotFoundError,
    ReadOnlyError,
    StoreError,
)
from spmem.protocols import Arrays
from spmem.stores.keyframes import record
from spmem.stores.keyframes.codec import rounded_depth
from spmem.stores.keyframes.groups import Group, checked_group, read_group, write_group
from spmem.stores.keyframes.layout import array, lay_out, load_rows, save_rows, write_records
from spmem.stores.keyframes.repository import cause_of, commit_lock, open_repository, store_errors
from spmem.stores.keyframes.rows import RowCameras
from spmem.types import Frame, Snapshot

_PENDING_KEYFRAMES = 16
_PENDING_BYTES = 1 << 24


class ZarrKeyframes:
    """Keyframes in a local folder, durable from commit to commit.

    A :class:`spmem.protocols.KeyframeStore`, made by :meth:`open`. Between commits a keyframe is readable and not yet
    durable: a process that dies leaves the last commit (Icechunk does not force local files to the disk, so a loss of
    power may take the latest commits too). One writer at a time; readers see the commit they opened.
    """

    def __init__(
        self, path: Path, repository: icechunk.Repository, *, read_only: bool, quality: int
    ) -> None:
        self._path, self._repository = path, repository
        self._read_only, self.quality = read_only, quality
        self._closed = False
        self._pending: dict[int, bytes] = {}  # records that are encoded and not written yet
        self._groups: dict[str, Group] = {}  # groups that the next commit writes
        with store_errors(path):
            self._begin()
            try:
                self._rows = load_rows(self._root)
            except (icechunk.IcechunkError, ValueError, KeyError) as error:
                raise CorruptMemoryError(
                    f"{path}: the table of keyframes is damaged ({cause_of(error)})"
                ) from error
        self._saved = len(self._rows)
        self._next = int(self._records.shape[0])

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        mode: str = "a",
        config: KeyframeConfig | None = None,
    ) -> ZarrKeyframes:
        """Open the bank in a local folder.

        Args:
            path: The folder.
            mode: ``r`` reads and writes nothing; ``a`` opens or makes; ``w`` makes anew in place of the memory there.
            config: ``quality`` is that of the colour that is appended from now on (an attribute, too).

        Raises:
            NotAMemoryError: Something else is at ``path``, or nothing and mode is ``r``.
            SchemaError: A newer spmem wrote it.
            ReadOnlyError: Mode is ``a`` or ``w`` and the folder cannot be written.
            CorruptMemoryError: The stored table of keyframes is damaged.
            StoreError: The disk is full, or what the system says.
        """
        if mode not in ("r", "a", "w"):
            raise InputError(f"mode must be 'r', 'a' or 'w', got {mode!r}")
        if "://" in fspath(path):
            raise InputError(f"{fspath(path)!r} is an address; this bank keeps to local folders")
        folder = Path(path).expanduser().absolute()
        quality = (config or KeyframeConfig()).quality
        repository = open_repository(folder, mode, lay_out)
        return cls(folder, repository, read_only=mode == "r", quality=quality)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"ZarrKeyframes({str(self._path)!r}, {len(self)} keyframes)"

    # -- keyframes ----------------------------------------------------------------------------------

    def append(self, frame: Frame) -> int:
        """Encode and keep a frame; returns its id, which no other keyframe ever had.

        Raises:
            FrameError: Depth or time is missing.
            ReadOnlyError: The bank was opened with mode ``r``.
            StoreError: Earlier keyframes could not be written; this one is not in the bank then.
        """
        self._require_writable()
        parts = record.encode(frame, self.quality)
        if (
            len(self._pending) >= _PENDING_KEYFRAMES
            or sum(map(len, self._pending.values())) >= _PENDING_BYTES
        ):
            self._flush()
        id, self._next = self._next, self._next + 1
        self._pending[id] = b"".join(parts)
        self._rows.append(id, frame, [len(part) for part in parts])
        return id

    def read(self, id: int) -> Frame:
        """A keyframe as it is stored: colour within JPEG's error, depth within 0.1 %, on the CPU.

        Raises:
            KeyframeNotFoundError: No keyframe has this id.
            CorruptMemoryError: Its stored bytes are damaged.
        """
        self._require_open()
        row = self._rows.find(int(id))
        if row is None:
            raise KeyframeNotFoundError(f"{self._path} has no keyframe {id}; it holds {len(self)}")
        lengths = self._rows["bytes"][row].tolist()
        time, channels = float(self._rows["time"][row]), int(self._rows["channels"][row])
        try:
            stored = self._stored(int(id), sum(lengths))
            return record.decode(stored, lengths, self._rows.camera(row), time, channels)
        except Exception as error:  # each decoder has its own way to say that bytes are damaged
            raise CorruptMemoryError(
                f"{self._path}: keyframe {id} cannot be read, its stored bytes are damaged or missing "
                f"({cause_of(error)}); the others are not affected"
            ) from error

    def stored_depth(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """The depth ``[h, w]`` that :meth:`read` gives after this one was appended, bit for bit."""
        return rounded_depth(depth)

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        return self._rows["id"].copy()

    def times(self) -> NDArray[np.float64]:
        """Seconds, in the order of ids."""
        return self._rows["time"].copy()

    def cameras(self) -> Sequence[Camera]:
        """Cameras in the order of ids, each built when it is asked for."""
        return RowCameras(self._rows, range(len(self._rows)))

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Give keyframes other poses ``[n, 4, 4]``, durable with the next commit.

        Raises:
            KeyframeNotFoundError: One of the ids is not there; none moves then.
            ReadOnlyError: The bank was opened with mode ``r``.
        """
        self._require_writable()
        rows = self._rows.rows(ids)
        self._rows["c2w"][rows] = c2w
        self._saved = min(self._saved, *rows.tolist(), len(self))

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Drop keyframes, durable with the next commit; earlier snapshots keep them.

        Raises:
            KeyframeNotFoundError: One of the ids is not there; none goes then.
            ReadOnlyError: The bank was opened with mode ``r``.
        """
        self._require_writable()
        rows = self._rows.rows(ids)
        with store_errors(self._path):
            for id in np.unique(ids).tolist():
                if id in self._pending:
                    self._pending[id] = b""
                else:
                    self._records[id] = 0  # a chunk of zeros is not stored
        self._rows.remove(rows)
        self._saved = min(self._saved, *rows.tolist(), len(self))

    # -- groups of arrays ---------------------------------------------------------------------------

    def write_arrays(self, group: str, arrays: Arrays, attributes: Mapping[str, Any]) -> None:
        """Replace a named group with the next commit (the arrays are copied now).

        Raises:
            InputError: A name that is no path segment, an array that does not hold numbers, attributes that are no
                JSON.
            ReadOnlyError: The bank was opened with mode ``r``.
        """
        self._require_writable()
        self._groups[group] = checked_group(group, arrays, attributes)

    def read_arrays(self, group: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """A named group and its attributes as last written, or None. Raises CorruptMemoryError."""
        self._require_open()
        if group in self._groups:
            return self._groups[group].unpacked()
        try:
            return read_group(self._root, group)
        except (icechunk.IcechunkError, ValueError, RuntimeError) as error:
            raise CorruptMemoryError(
                f"{self._path}: the arrays of {group!r} are damaged"
            ) from error

    # -- commits ------------------------------------------------------------------------------------

    def commit(self, message: str) -> str:
        """Make keyframes and groups durable in one transaction; returns the snapshot's id.

        Raises:
            ReadOnlyError: The bank was opened with mode ``r``.
            StoreError: The disk is full (the last commit is intact; commit again once there is space), or another
                writer committed meanwhile.
        """
        self._require_writable()
        with store_errors(self._path):
            self._flush()
            save_rows(self._root, self._rows, self._saved)
            for name, group in self._groups.items():
                write_group(self._root, name, group)
            # A change of some kind, without which Icechunk makes no snapshot.
            self._root.attrs["parent"] = self._session.snapshot_id
            with commit_lock(self._path):
                snapshot = self._session.commit(message, {"keyframes": len(self)})
                self._begin()  # here, so that what comes next builds on this commit and on no other
            self._groups.clear()
            self._saved = len(self._rows)
        return snapshot

    def snapshots(self) -> list[Snapshot]:
        """Committed states up to the one that is open, latest first."""
        self._require_open()
        with store_errors(self._path):
            ancestry = list(self._repository.ancestry(snapshot_id=self._session.snapshot_id))
        return [
            Snapshot(s.id, s.message, s.written_at.timestamp(), s.metadata["keyframes"])
            for s in ancestry
            if "keyframes" in s.metadata
        ]

    def close(self) -> None:
        """Release the folder; what was not committed is dropped."""
        self._closed = True
        self._pending.clear()
        self._groups.clear()

    # -- below ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        session = (
            self._repository.readonly_session
            if self._read_only
            else self._repository.writable_session
        )
        self._session = session("main")
        self._root = zarr.open_group(self._session.store, mode="r" if self._read_only else "r+")
        self._records = array(self._root, "records")

    def _flush(self) -> None:
        if self._pending:
            with store_errors(self._path):
                write_records(self._records, min(self._pending), list(self._pending.values()))
            self._pending.clear()

    def _stored(self, id: int, length: int) -> NDArray[np.uint8]:
        if id in self._pending:
            return np.frombuffer(self._pending[id], np.uint8)
        return np.asarray(self._records[id, :length])

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self._path}: this memory is closed; open it again")

    def _require_writable(self) -> None:
        self._require_open()
        if self._read_only:
            raise ReadOnlyError(f"{self._path} was opened with mode='r'; open it with mode='a'")
