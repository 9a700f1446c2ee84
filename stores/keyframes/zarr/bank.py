"""The keyframe bank on disk: Zarr v3 arrays in an Icechunk repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from os import PathLike
from threading import Lock
from typing import Any, TypeVar

import icechunk
import numpy as np
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.config import KeyframeConfig
from spmem.errors import (
    CorruptMemoryError,
    InputError,
    StoreError,
)
from spmem.protocols import Arrays
from spmem.stores.keyframes.frames import copied, require_complete, size
from spmem.stores.keyframes.groups import checked_group
from spmem.stores.keyframes.names import MAIN, checked_uid
from spmem.stores.keyframes.zarr import record, schema
from spmem.stores.keyframes.zarr.branches import require_branch
from spmem.stores.keyframes.zarr.cache import FrameCache
from spmem.stores.keyframes.zarr.codec import rounded_depth
from spmem.stores.keyframes.zarr.decode import Record, read_records
from spmem.stores.keyframes.zarr.encode import write_records
from spmem.stores.keyframes.zarr.errors import cause_of, store_errors
from spmem.stores.keyframes.zarr.groups import read_group, write_group
from spmem.stores.keyframes.zarr.history import Versions
from spmem.stores.keyframes.zarr.layout import array, lay_out, load_rows, save_rows
from spmem.stores.keyframes.zarr.location import place
from spmem.stores.keyframes.zarr.repository import open_repository
from spmem.stores.keyframes.zarr.table import RowCameras
from spmem.types import Frame

T = TypeVar("T")

_PENDING_KEYFRAMES = 8
_PENDING_BYTES = 1 << 24


class ZarrKeyframes(Versions):
    """Keyframes in a local folder or an object store, durable from commit to commit.

    A :class:`spmem.protocols.KeyframeStore`, made by :meth:`open`. A keyframe is encoded and written in the background;
    between commits it is readable and not yet durable: a process that dies leaves the last commit. Local files are
    forced to the disk with ``durability="power"`` only. One writer a branch at a time; readers see the commit they
    opened.
    """

    _next: int
    _saved: int

    @classmethod
    def open(
        cls,
        path: str | PathLike[str],
        mode: str = "a",
        config: KeyframeConfig | None = None,
        *,
        branch: str = MAIN,
        options: Mapping[str, Any] | None = None,
    ) -> ZarrKeyframes:
        """Open the bank at a place.

        Args:
            path: A local folder, or an address as :func:`spmem.stores.keyframes.zarr.location.place` takes it.
            mode: ``r`` reads and writes nothing; ``a`` opens or makes; ``w`` makes anew in place of the memory there.
            config: ``quality`` is that of the colour that is appended from now on, ``durability`` that of commits.
            branch: Which line of history.
            options: For the object store.

        Raises:
            NotAMemoryError: Something else is at ``path``, or nothing and mode is ``r``.
            SchemaError: A newer spmem wrote it.
            SnapshotNotFoundError: There is no such branch.
            ReadOnlyError: Mode is ``a`` or ``w`` and the folder cannot be written.
            CorruptMemoryError: The stored table of keyframes is damaged.
            StoreError: The disk is full, or what the system says.
        """
        if mode not in ("r", "a", "w"):
            raise InputError(f"mode must be 'r', 'a' or 'w', got {mode!r}")
        where, config = place(path, options), config or KeyframeConfig()
        forced = config.durability == "power"
        repository = open_repository(where, mode, lay_out, forced=forced)
        require_branch(where, repository, branch)
        return cls(where, repository, config, branch=branch, read_only=mode == "r")

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"ZarrKeyframes({str(self._place)!r}, {len(self)} keyframes)"

    # -- keyframes ----------------------------------------------------------------------------------

    def append(self, frame: Frame, uid: bytes | None = None) -> int:
        """Keep a frame under a uid, new if None; returns its id, which no other keyframe of this branch ever had.

        The frame is copied, and encoded and written later; some 64 MB of frames may wait for that, then this waits.

        Raises:
            FrameError: Depth or time is missing.
            InputError: A uid that is not 16 bytes, or is in the bank.
            ReadOnlyError: The bank was opened with mode ``r``.
            StoreError: Earlier keyframes could not be written, as on a full disk; this one is not in the bank then.
        """
        self._require_writable()
        require_complete(frame)
        uid = checked_uid(uid)
        if (self._rows["uid"] == np.frombuffer(uid, np.uint8)).all(1).any():
            raise InputError(f"the bank holds the keyframe {uid.hex()} already")
        self._tell()
        frame = copied(frame)
        id, quality = self._next, self._config.quality
        with self._lock:
            self._rows.append(id, uid, frame)
            self._coming.add(id)
        try:
            coded = self._writer.code(record.encode, frame, quality)
            self._writer.put(lambda: self._keep(id, coded), size(frame))
        except BaseException:
            with self._lock:
                self._rows.remove(self._rows.rows(np.array([id])))
                self._coming.discard(id)
            raise
        self._next += 1
        return id

    def read(self, id: int) -> Frame:
        """A keyframe as it is stored: colour within JPEG's error, depth within 0.1 %, on the CPU.

        Raises:
            KeyframeNotFoundError: No keyframe has this id.
            CorruptMemoryError: Its stored bytes are damaged.
        """
        return self.read_many([id])[0]

    def read_many(self, ids: Sequence[int]) -> list[Frame]:
        """Several keyframes as :meth:`read` gives each, in the order of ids; read together, and decoded in threads.

        Raises:
            KeyframeNotFoundError: No keyframe has one of the ids.
            CorruptMemoryError: The stored bytes of one are damaged.
        """
        self._require_open()
        if not self._coming.isdisjoint(ids):
            self._writer.wait()
        table = self._rows
        rows = table.rows(np.array(ids, np.int64))

        def decode(row: int, stored: Record) -> Frame:
            wanted = int(table["digest"][row])
            if wanted and record.digest(stored.data) != wanted:
                raise ValueError("it is not what was written")
            time, channels = float(table["time"][row]), int(table["channels"][row])
            lengths = table["bytes"][row].tolist()
            return record.decode(stored, lengths, table.camera(row), time, channels)

        frames = {}
        for n, row in enumerate(rows.tolist()):
            if (hot := self._hot.get(int(ids[n]))) is not None:
                frames[n] = hot.replace(camera=table.camera(row))
        cold = [n for n in range(len(rows)) if n not in frames]
        for n, frame in zip(cold, self._stored(rows[cold], decode), strict=True):
            self._hot.offer(int(ids[n]), frame)
            frames[n] = frame
        return [frames[n] for n in range(len(rows))]

    def stored_depth(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """The depth ``[h, w]`` that :meth:`read` gives after this one was appended, bit for bit."""
        return rounded_depth(depth)

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        return self._rows["id"].copy()

    def uids(self) -> list[bytes]:
        """The identity of each keyframe, in the order of ids."""
        return self._rows.uids()

    def times(self) -> NDArray[np.float64]:
        """Seconds, in the order of ids."""
        return self._rows["time"].copy()

    def cameras(self) -> Sequence[Camera]:
        """Cameras in the order of ids, each built when it is asked for."""
        return RowCameras(self._rows, range(len(self._rows)))

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each record, in the order of ids; those that are not encoded yet count as the mean of the others."""
        sizes = self._rows["bytes"].sum(1)
        known = sizes[sizes > 0]
        sizes[sizes == 0] = int(known.mean()) if len(known) else 0
        return np.asarray(sizes)

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Give keyframes other poses ``[n, 4, 4]``, durable with the next commit.

        Raises:
            KeyframeNotFoundError: One of the ids is not there; none moves then.
            ReadOnlyError: The bank was opened with mode ``r``.
        """
        self._require_writable()
        self._writer.wait()
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
        self._writer.wait()
        rows = self._rows.rows(ids)
        self._hot.drop(ids.tolist())
        with store_errors(self._place):
            for id in np.unique(ids).tolist():
                if id in self._pending:
                    self._pending[id] = b""
                else:
                    self._records[id] = 0  # a chunk of zeros is not stored
        self._rows.remove(rows)
        self._saved = min(self._saved, *rows.tolist(), len(self))

    # -- groups of arrays ---------------------------------------------------------------------------

    def write_arrays(self, group: str, arrays: Arrays, attributes: Mapping[str, Any]) -> None:
        """Make a named group hold these, with the next commit; chunks that did not change are not written again.

        Raises:
            InputError: A name that is no path segment, an array that does not hold numbers, attributes that are no
                JSON.
            ReadOnlyError: The bank was opened with mode ``r``.
            StoreError: The disk is full; nothing is committed before the group was written whole.
        """
        self._require_writable()
        checked = checked_group(group, arrays, attributes)
        self._writer.wait()
        self._broken.add(group)
        with store_errors(self._place):
            write_group(self._root, group, checked)
        self._broken.discard(group)
        self._written.add(group)

    def read_arrays(self, group: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """A named group and its attributes as last written, or None. Raises CorruptMemoryError."""
        self._require_open()
        try:
            return read_group(self._root, group)
        except (icechunk.IcechunkError, ValueError, RuntimeError) as error:
            raise CorruptMemoryError(
                f"{self._place}: the arrays of {group!r} are damaged ({cause_of(error)}); `spmem verify --repair` makes "
                "anew what can be made from the keyframes"
            ) from error

    # -- commits ------------------------------------------------------------------------------------

    def commit(self, message: str, *, wait: bool = True) -> str | None:
        """Make keyframes and groups durable in one transaction; the snapshot's id.

        Without ``wait`` it happens in the background, the answer is None, and what goes wrong surfaces at a later call.

        Raises:
            ReadOnlyError: The bank was opened with mode ``r``.
            ConflictError: Another writer committed to the branch meanwhile.
            StoreError: The disk is full (the last commit is intact; commit again once there is space).
        """
        self._require_writable()
        if not wait:
            count = len(self)
            self._writer.put(lambda: self._try(lambda: self._commit(message, count)))
            return None
        self._writer.wait()
        return self._commit(message, len(self))

    def flush(self) -> None:
        """Wait for what is under way in the background. Raises what went wrong there."""
        self._require_open()
        self._writer.wait()
        self._tell()

    def close(self) -> None:
        """Release the place; what was not committed is dropped."""
        super().close()
        self._pending.clear()
        self._hot.clear()

    def configure(self, config: KeyframeConfig) -> None:
        """Encode, commit and keep in RAM from now on as the configuration says."""
        super().configure(config)
        self._hot = FrameCache(config.cache_bytes)

    # -- below ----------------------------------------------------------------------------------------

    def _load(self) -> None:
        self._hot.clear()  # ids may be given again after a rollback
        self._lock = Lock()  # held by whoever changes the table or what is pending
        self._pending: dict[int, bytes] = {}  # records that are encoded and not written yet
        self._coming: set[int] = set()  # keyframes that are not encoded yet
        self._written: set[str] = set()  # groups, since the last commit
        self._late: StoreError | None = None  # what failed in the background, and nobody knows yet
        self._broken: set[str] = set()  # groups of which a part may be written
        with store_errors(self._place):
            self._begin()
            schema.check(dict(self._root.attrs), self._place)
            try:
                self._rows = load_rows(self._root)
            except (icechunk.IcechunkError, ValueError, KeyError) as error:
                raise CorruptMemoryError(
                    f"{self._place}: the table of keyframes is damaged ({cause_of(error)})"
                ) from error
        self._saved = len(self._rows)
        self._next = int(self._records.shape[0])

    def _begin(self) -> None:
        super()._begin()
        self._records = array(self._root, "records")

    def _uncommitted(self) -> bool:
        return bool(self._pending) or len(self) != self._saved or super()._uncommitted()

    def _keep(self, id: int, coded: Future[tuple[bytes, ...]]) -> None:
        try:
            parts = coded.result()
        except Exception:
            with self._lock:
                self._rows.remove(self._rows.rows(np.array([id])))
                self._pending[id] = b""
                self._coming.discard(id)
            raise
        with self._lock:
            row, whole = self._rows.rows(np.array([id])), b"".join(parts)
            self._rows["bytes"][row] = [len(part) for part in parts]
            self._rows["digest"][row] = record.digest(whole)
            self._pending[id] = whole
            self._coming.discard(id)
        waiting = self._pending.values()
        if len(waiting) >= _PENDING_KEYFRAMES or sum(map(len, waiting)) >= _PENDING_BYTES:
            self._try(self._flush)

    def _try(self, write: Callable[[], object]) -> None:
        """Write in the background. What fails is not lost: whoever stores or flushes next is told, and the next
        commit writes it.
        """
        try:
            with store_errors(self._place):
                write()
        except StoreError as error:
            self._late = error

    def _tell(self) -> None:
        if self._late is not None:
            error, self._late = self._late, None
            raise error

    def _flush(self) -> None:
        if self._pending:
            first = min(self._pending)
            write_records(self._records, first, list(self._pending.values()))
            self._pending = {}

    def _commit(self, message: str, count: int) -> str:
        if self._broken:
            raise StoreError(
                f"{self._place}: {', '.join(sorted(self._broken))} could not be written whole; write it again, then commit"
            )
        with store_errors(self._place):
            self._flush()
            with self._lock:
                rows = self._rows.first(count)
            save_rows(self._root, rows, self._saved)
            if self._root.attrs["spmem"] != (mark := schema.mark()["spmem"]):
                self._root.attrs["spmem"] = mark
            until = float(rows["time"].max()) if count else None
            snapshot = self._commit_session(message, count, until)
            self._written.clear()
            self._saved, self._late = count, None
        return snapshot

    def _take_over(self, other: ZarrKeyframes) -> None:
        """Write here what another bank, on the same snapshot, has not committed."""
        kept = set(other._rows["id"].tolist())
        for id in self._rows["id"].tolist():
            if id not in kept:
                self._records[id] = 0
        for id in range(self._next, other._next):
            row = other._rows.find(id)
            self._pending[id] = b"" if row is None else other._stored([row], _bytes)[0]
            if len(self._pending) == _PENDING_KEYFRAMES:
                self._flush()
        self._rows, self._saved, self._next = other._rows.first(), other._saved, other._next
        for name in other._written - other._broken:
            found = other.read_arrays(name)
            if found is not None:
                self.write_arrays(name, *found)

    def _stored(
        self, rows: Sequence[int] | NDArray[np.int64], decode: Callable[[int, Record], T]
    ) -> list[T]:
        """What ``decode(row, record)`` makes of the records of rows. Raises CorruptMemoryError where it fails."""
        ids, lengths = self._rows["id"][rows].tolist(), self._rows["bytes"][rows].sum(1).tolist()
        wanted = list(zip(ids, lengths, strict=True))
        found = read_records(
            self._records, self._pending, wanted, lambda n, stored: decode(int(rows[n]), stored)
        )
        read = []
        for id, one in zip(ids, found, strict=True):
            if isinstance(
                one, Exception
            ):  # each decoder has its own way to say that bytes are damaged
                raise CorruptMemoryError(
                    f"{self._place}: keyframe {id} cannot be read, its stored bytes are damaged or missing "
                    f"({cause_of(one)}); the others are not affected"
                ) from one
            read.append(one)
        return read


def _bytes(row: int, stored: Record) -> bytes:
    return stored.tobytes()
