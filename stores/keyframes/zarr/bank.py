"""The keyframe bank on disk: Zarr v3 arrays in an Icechunk repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from os import PathLike
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.config import KeyframeConfig
from spmem.errors import (
    CorruptMemoryError,
    InputError,
    ReadOnlyError,
    SnapshotNotFoundError,
    StoreError,
)
from spmem.names import MAIN, checked_uid
from spmem.protocols import Arrays
from spmem.stores.keyframes.frames import copied, require_complete, size
from spmem.stores.keyframes.groups import KEYFRAMES, checked_group
from spmem.stores.keyframes.zarr import record, schema
from spmem.stores.keyframes.zarr.background import BackgroundWriter
from spmem.stores.keyframes.zarr.cache import FrameCache
from spmem.stores.keyframes.zarr.codec import rounded_depth
from spmem.stores.keyframes.zarr.decode import Record, read_records
from spmem.stores.keyframes.zarr.encode import delete_records, write_records
from spmem.stores.keyframes.zarr.errors import cause_of, store_errors
from spmem.stores.keyframes.zarr.forks import require_icechunk
from spmem.stores.keyframes.zarr.groups import read_group, write_group
from spmem.stores.keyframes.zarr.history import History
from spmem.stores.keyframes.zarr.layout import array, lay_out, load_rows, save_rows
from spmem.stores.keyframes.zarr.location import parse_location
from spmem.stores.keyframes.zarr.pending import PendingRecords, refusal
from spmem.stores.keyframes.zarr.reader import ReaderAddress, reopened
from spmem.stores.keyframes.zarr.repository import open_repository, stored_bytes
from spmem.stores.keyframes.zarr.session import Session
from spmem.stores.keyframes.zarr.table import KeyframeTable, RowCameras
from spmem.stores.keyframes.zarr.untrusted import check_frame, check_poses
from spmem.types import Frame, Snapshot

T = TypeVar("T")

_WAITING_BYTES = 1 << 26
"""Most bytes of frames that wait to be encoded."""


class ZarrKeyframes:
    """Keyframes in a local folder or an object store, durable from commit to commit.

    A :class:`spmem.protocols.KeyframeStore` with every capability, made by :meth:`open`. A keyframe is encoded and
    written in the background; between commits it is readable and not yet durable: a process that dies leaves the last
    commit. Local files are forced to the disk with ``durability="power"`` only. One writer a branch at a time; readers
    see the commit they opened.
    """

    _rows: KeyframeTable
    _saved: int
    _next: int

    def __init__(self, session: Session, config: KeyframeConfig) -> None:
        self._session = session
        self._location = session.location
        self._history = History(session.location, session.repository)
        self._closed = False
        self._writer = BackgroundWriter(_WAITING_BYTES)
        self.configure(config)
        self._load()

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
        """Open the bank at a path or an address.

        Args:
            path: A local folder, or an address as :func:`spmem.stores.keyframes.zarr.location.parse_location` takes it.
            mode: ``r``: read-only; ``a`` opens or makes; ``w`` makes a new memory in place of the one there.
            config: ``quality`` is that of the colour that is appended from now on, ``durability`` that of commits.
            branch: Branch to open.
            options: Options of the object store.

        Raises:
            NotAMemoryError: Something else is at ``path``, or nothing and mode is ``r``.
            SchemaError: A newer spmem wrote it.
            SnapshotNotFoundError: There is no such branch.
            ReadOnlyError: Mode is ``a`` or ``w`` and the folder cannot be written.
            CorruptMemoryError: The stored table of keyframes is damaged.
            StoreError: The disk is full, or what the system reports.
        """
        if mode not in ("r", "a", "w"):
            raise InputError(f"mode must be 'r', 'a' or 'w', got {mode!r}")
        location, config = parse_location(path, options), config or KeyframeConfig()
        forced = config.durability == "power"
        repository = open_repository(location, mode, lay_out, forced=forced)
        History(location, repository).require_branch(branch)
        read_only = mode == "r"
        session = Session(
            location,
            repository,
            branch=branch,
            read_only=read_only,
            follows=read_only,
            forced=forced,
        )
        return cls._opened(session, config)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"ZarrKeyframes({str(self._location)!r}, {len(self)} keyframes)"

    @property
    def branch(self) -> str:
        """The branch that is open."""
        return self._session.branch

    # -- keyframes ----------------------------------------------------------------------------------

    def append(self, frame: Frame, uid: bytes | None = None) -> int:
        """Keep a frame under a uid, new if None; returns its id, which no other keyframe of this branch ever had.

        The frame is copied, and encoded and written later; some 64 MB of frames may wait for that, then this waits.

        Raises:
            FrameError: Depth or time is missing, or the frame is of a size, or has a camera, that cannot be stored.
            InputError: A uid that is not 16 bytes, or is in the bank.
            ReadOnlyError: The bank was opened with mode ``r``.
            StoreError: Earlier keyframes could not be encoded or written, as on a full disk; they are kept in RAM and the
                next commit writes them. This frame is not in the bank then.
        """
        self._require_writable()
        require_complete(frame)
        check_frame(frame)
        uid = checked_uid(uid)
        if (self._rows["uid"] == np.frombuffer(uid, np.uint8)).all(1).any():
            raise InputError(f"the bank holds the keyframe {uid.hex()} already")
        self._raise_late()
        frame = copied(frame)
        id, quality = self._next, self._config.quality
        with self._lock:
            self._rows.append(id, uid, frame)
            self._pending.coming.add(id)
        try:
            coded = self._writer.code(record.encode, frame, quality)
            self._writer.put(lambda: self._encoded(id, frame, quality, coded), size(frame))
        except BaseException:
            with self._lock:
                self._rows.remove(self._rows.rows(np.array([id])))
                self._pending.coming.discard(id)
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
            SnapshotNotFoundError: Another process has deleted the snapshot that is open here.
        """
        self._require_open()
        if not self._pending.coming.isdisjoint(ids):
            self._writer.wait()
        table = self._rows
        rows = table.rows(ids)

        def decode(row: int, stored: Record) -> Frame:
            if record.digest(stored.data) != int(table["digest"][row]):
                raise ValueError("it is not what was written")
            time, channels = float(table["time"][row]), int(table["channels"][row])
            lengths = table["bytes"][row].tolist()
            return record.decode(stored, lengths, table.camera(row), time, channels)

        frames = {}
        for n, row in enumerate(rows.tolist()):
            id = int(ids[n])
            if (refused := self._pending.refused.get(id)) is not None:
                frames[n] = copied(refused[0]).replace(camera=table.camera(row))
            elif (cached := self._cache.get(id)) is not None:
                frames[n] = cached.replace(camera=table.camera(row))
        cold = [n for n in range(len(rows)) if n not in frames]
        for n, frame in zip(cold, self._decoded(rows[cold], decode), strict=True):
            self._cache.offer(int(ids[n]), frame)
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
            CameraError: A pose that is not rigid.
            ReadOnlyError: The bank was opened with mode ``r``.
        """
        self._require_writable()
        rows = self._rows.rows(ids)
        check_poses(c2w)
        self._writer.wait()
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
        self._cache.drop(np.asarray(ids).tolist())
        self._delete({int(self._rows["id"][row]): row for row in rows.tolist()})
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
        with store_errors(self._location):
            self._session.require_there()
            write_group(self._session.root, group, checked)
        self._broken.discard(group)
        self._written.add(group)

    def read_arrays(self, group: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """A named group and its attributes as last written, or None. Raises CorruptMemoryError."""
        self._require_open()
        try:
            content = read_group(self._session.root, group)
        except Exception as error:  # Zarr raises whatever it meets in metadata that is not its own
            self._session.require_snapshot()
            raise CorruptMemoryError(
                f"{self._location}: the arrays of {group!r} are damaged ({cause_of(error)}); `spmem verify --repair` "
                "makes again what can be made from the keyframes"
            ) from error
        if content is None or group in self._written:
            return content
        return schema.migrated_group(group, content, self._schema)

    # -- commits ------------------------------------------------------------------------------------

    def commit(self, message: str, *, wait: bool = True) -> str | None:
        """Make keyframes and groups durable in one transaction; the snapshot's id.

        Without ``wait`` it happens in the background, the result is None, and what goes wrong surfaces at a later call.

        Raises:
            ReadOnlyError: The bank was opened with mode ``r``.
            ConflictError: Another writer committed to the branch meanwhile.
            StoreError: The disk is full (the last commit is intact; commit again once there is space), the folder is
                gone, or a keyframe cannot be encoded.
        """
        self._require_writable()
        if not wait:
            count = len(self)
            self._writer.put(lambda: self._try(lambda: self._commit(message, count)))
            return None
        count = len(self)
        return self._writer.run(lambda: self._commit(message, count))

    def flush(self) -> None:
        """Wait for what is under way in the background. Raises what went wrong there."""
        self._require_open()
        self._writer.wait()
        self._raise_late()

    def configure(self, config: KeyframeConfig) -> None:
        """Encode, commit and keep in RAM from now on as the configuration says."""
        self._config = config
        self._session.force(config.durability == "power")
        self._cache = FrameCache(config.cache_bytes)

    # -- history ------------------------------------------------------------------------------------

    def snapshots(self) -> list[Snapshot]:
        """Committed states up to the one that is open, latest first."""
        self._require_open()
        self._writer.wait()
        return self._history.snapshots(self._session.base)

    def branches(self) -> dict[str, str]:
        """The last snapshot of each branch."""
        self._require_open()
        return self._history.branches()

    def tags(self) -> dict[str, str]:
        """The snapshots that have names."""
        self._require_open()
        return self._history.tags()

    def tag(self, name: str) -> None:
        """Name the last commit. Raises InputError for a name that a tag has or had, or that is no name."""
        self._require_writable()
        self._writer.wait()
        self._history.tag(name, self._session.base)

    def drop_tag(self, name: str) -> None:
        """Remove a tag. Raises SnapshotNotFoundError."""
        self._require_writable()
        self._history.drop_tag(name)

    def drop_branch(self, name: str) -> None:
        """Remove a branch; not this bank's, not the main one. Raises SnapshotNotFoundError, InputError."""
        self._require_writable()
        self._history.drop_branch(name, opened=self.branch)

    def at(self, snapshot: str) -> ZarrKeyframes:
        """The bank as of a snapshot (its id), to read. Raises SnapshotNotFoundError."""
        self._require_open()
        return self._beside(self.branch, snapshot=self._history.snapshot_id(snapshot))

    def fork(self, name: str) -> ZarrKeyframes:
        """The bank as it is now, on a new branch, with what was not committed here; nothing is copied but that.

        Raises:
            InputError: The name is taken, or no name.
            StoreError: The disk is full.
        """
        self._require_open()
        self._writer.wait()
        self._history.make_branch(name, self._session.base)
        forked = self._beside(name)
        try:
            with store_errors(self._location):
                forked._take_over(self)
        except BaseException:
            forked.close()
            raise
        return forked

    def on(self, branch: str) -> ZarrKeyframes:
        """The bank on another branch, as last committed there, for writing. Raises SnapshotNotFoundError."""
        self._require_open()
        self._history.require_branch(branch)
        return self._beside(branch)

    def rollback(self, snapshot: str) -> None:
        """Let the branch end at an earlier snapshot (its id); what came after it is gone from the branch.

        Raises:
            SnapshotNotFoundError: The branch has no such snapshot.
            ConflictError: Another writer committed to the branch meanwhile.
        """
        self._require_writable()
        id = self._history.snapshot_id(snapshot)
        if id not in {one.id for one in self.snapshots()}:
            raise SnapshotNotFoundError(
                f"{self._location}: the snapshot {snapshot!r} is not one of the branch {self.branch!r}"
            )
        self._history.reset_branch(self.branch, id, last=self._session.base)
        with store_errors(self._location):
            self._session.begin_on_last()
        self._load()

    def reclaim(self, keep: int | None = None) -> int:
        """Delete what nothing leads to any more; the bytes that were freed.

        Args:
            keep: Commits of this branch to keep; those before them end, on other branches too (but for the last ones,
                and tags). None ends none.

        Raises:
            StoreError: Something is not committed, or another bank has this memory open for writing.
        """
        self._require_writable()
        self._writer.wait()
        pending = self._pending.encoded or self._pending.refused or len(self) != self._saved
        if pending or self._session.changed():
            raise StoreError(f"{self._location}: commit what is new, then reclaim")
        with store_errors(self._location), self._session.lock().alone():
            freed = self._history.reclaim(self._session.base, keep)
            self._session.begin()
            self._records = array(self._session.root, "records")
        return freed

    def refreshed(self) -> ZarrKeyframes | None:
        """A reader of the branch's last commit; None if this one shows it already.

        Raises:
            StoreError: This bank is open for writing, or at a snapshot.
            SnapshotNotFoundError: The branch was dropped.
        """
        self._require_open()
        if not self._session.follows:
            reads = self._session.read_only
            how = "at a snapshot, which stays as it is" if reads else "for writing"
            raise StoreError(
                f'{self._location} is open {how}; refresh() is for a memory opened with mode="r"'
            )
        last = self.branches().get(self.branch)
        if last is None:
            self._history.require_branch(self.branch)
        if last == self._session.base:
            return None
        return self._beside(self.branch, read_only=True, follows=True)

    def describe(self) -> dict[str, Any]:
        """The schema, the version that wrote it, and bytes by part, ``total`` and ``history`` among them.

        ``history`` is all but the latest state, and what Icechunk keeps about it.
        """
        self._require_open()
        parts: dict[str, int] = {}
        for name, node in self._session.root.members(max_depth=None):
            if hasattr(node, "nbytes_stored"):
                top = name.split("/")[0]
                parts[top] = parts.get(top, 0) + node.nbytes_stored()
        total = stored_bytes(self._location)
        history = max(total - sum(parts.values()), 0)
        taken = {"total": total} | dict(sorted(parts.items())) | {"history": history}
        mark: Any = self._session.root.attrs["spmem"]
        return {"schema": self._schema, "version": mark.get("version"), "bytes": taken}

    def close(self) -> None:
        """Release everything, whatever goes wrong; what was not committed is dropped."""
        if self._closed:
            return
        self._closed = True
        try:
            self._writer.stop()
        finally:
            self._session.close()
            self._pending = PendingRecords()
            self._cache.clear()

    def __reduce__(self) -> tuple[object, ...]:
        """A reader travels to another process as its address. Raises StoreError if it is open for writing."""
        self._require_open()
        session = self._session
        if not session.read_only:
            raise StoreError(
                f"{self._location} is open for writing, which stays in one process: commit, and send "
                'a reader, spmem.open(path, mode="r")'
            )
        where = (session.location, session.branch, session.base, session.follows, self._config)
        return reopened, (type(self), ReaderAddress(*where))

    # -- below ----------------------------------------------------------------------------------------

    @classmethod
    def _opened(cls, session: Session, config: KeyframeConfig) -> ZarrKeyframes:
        try:
            return cls(session, config)
        except BaseException:
            session.close()
            raise

    def _beside(self, branch: str, **how: Any) -> ZarrKeyframes:
        """Another bank of this repository."""
        session = Session(self._location, self._session.repository, branch=branch, **how)
        return self._opened(session, self._config)

    def _load(self) -> None:
        self._cache.clear()  # ids may be given again after a rollback
        self._lock = Lock()  # held by whoever changes the table or what is pending
        self._pending = PendingRecords()
        self._written: set[str] = set()  # groups, since the last commit
        self._broken: set[str] = set()  # groups of which a part may be written
        self._late: StoreError | None = None  # what failed in the background, not raised yet
        root = self._session.root
        with store_errors(self._location):
            try:
                self._schema = schema.check_schema(dict(root.attrs), self._location)
                self._records = array(root, "records")
                self._rows = load_rows(root, self._schema)
            except StoreError:
                raise
            except (
                Exception
            ) as error:  # Zarr raises whatever it meets in metadata that is not its own
                self._session.require_snapshot()
                raise CorruptMemoryError(
                    f"{self._location}: the table of keyframes is damaged ({cause_of(error)})"
                ) from error
        self._saved = len(self._rows)
        self._next = int(self._records.shape[0])

    def _encoded(
        self, id: int, frame: Frame, quality: int, coded: Future[tuple[bytes, ...]]
    ) -> None:
        """Take what the encoder made of a keyframe, or note that it refused it."""
        try:
            parts = coded.result()
        except Exception as error:
            with self._lock:
                self._pending.refused[id] = frame, quality
                self._pending.coming.discard(id)
                self._late = refusal(id, error)
            return
        self._take_record(id, parts)
        if self._pending.full:
            self._try(self._flush)

    def _take_record(self, id: int, parts: tuple[bytes, ...]) -> None:
        with self._lock:
            row, whole = self._rows.rows(np.array([id])), b"".join(parts)
            self._rows["bytes"][row] = [len(part) for part in parts]
            self._rows["digest"][row] = record.digest(whole)
            self._saved = min(self._saved, *row.tolist())
            self._pending.encoded[id] = whole
            self._pending.refused.pop(id, None)
            self._pending.coming.discard(id)

    def _try(self, write: Callable[[], object]) -> None:
        """Write in the background. What fails is not lost: the next store or flush raises it, and the next commit
        writes it.
        """
        try:
            with store_errors(self._location):
                write()
        except StoreError as error:
            self._late = error

    def _raise_late(self) -> None:
        if self._late is not None:
            error, self._late = self._late, None
            raise error

    def _flush(self) -> None:
        if self._pending.encoded:
            self._session.require_there()
            write_records(self._records, self._pending.encoded)
            self._pending.encoded = {}

    def _delete(self, rows: Mapping[int, int]) -> None:
        """Delete the records of keyframes, by id and row."""
        lengths = self._rows["bytes"].sum(1)
        stored = {id: int(lengths[row]) for id, row in rows.items() if not self._pending.drop(id)}
        with store_errors(self._location):
            delete_records(self._records, stored)

    def _commit(self, message: str, count: int) -> str:
        if self._broken:
            raise StoreError(
                f"{self._location}: {', '.join(sorted(self._broken))} could not be written whole; write it again, then commit"
            )
        for id, parts in self._pending.encode_refused().items():
            self._take_record(id, parts)
        with store_errors(self._location):
            self._flush()
            self._migrate()
            root = self._session.root
            with self._lock:
                rows = self._rows.first(count)
            save_rows(root, rows, self._saved)
            if root.attrs["spmem"] != (mark := schema.schema_attributes()["spmem"]):
                root.attrs["spmem"] = mark
            until = float(rows["time"].max()) if count else None
            snapshot = self._session.commit(message, count, until)
            self._records = array(self._session.root, "records")
            self._written.clear()
            self._schema = schema.SCHEMA
            self._saved, self._late = count, None
        return snapshot

    def _migrate(self) -> None:
        """Write all that an older schema stored as the latest."""
        if self._schema == schema.SCHEMA:
            return
        self._saved = 0
        for name, _ in list(self._session.root.groups()):
            content = None if name in (KEYFRAMES, *self._written) else self.read_arrays(name)
            if content is not None:
                write_group(self._session.root, name, checked_group(name, *content))

    def _take_over(self, other: ZarrKeyframes) -> None:
        """Write here what another bank, on the same snapshot, has not committed."""
        kept = set(other.ids().tolist())
        gone = {id: row for row, id in enumerate(self.ids().tolist()) if id not in kept}
        self._delete(gone)
        for id in range(self._next, other._next):
            row = other._rows.find(id)
            refused = other._pending.refused.get(id)
            if refused is not None:
                self._pending.refused[id] = refused
            else:
                self._pending.encoded[id] = b"" if row is None else other._decoded([row], _bytes)[0]
            if self._pending.full:
                self._flush()
        self._rows, self._saved, self._next = other._rows.first(), other._saved, other._next
        for name in other._written - other._broken:
            found = other.read_arrays(name)
            if found is not None:
                self.write_arrays(name, *found)

    def _decoded(
        self, rows: Sequence[int] | NDArray[np.int64], decode: Callable[[int, Record], T]
    ) -> list[T]:
        """What ``decode(row, record)`` makes of the records of rows. Raises CorruptMemoryError if it fails."""
        ids, lengths = self._rows["id"][rows].tolist(), self._rows["bytes"][rows].sum(1).tolist()
        wanted = list(zip(ids, lengths, strict=True))
        found = read_records(
            self._records,
            self._pending.encoded,
            wanted,
            lambda n, stored: decode(int(rows[n]), stored),
        )
        read = []
        for id, one in zip(ids, found, strict=True):
            if isinstance(one, Exception):  # each decoder has its own for damaged bytes
                self._session.require_snapshot()
                raise CorruptMemoryError(
                    f"{self._location}: keyframe {id} cannot be read, its stored bytes are damaged or missing "
                    f"({cause_of(one)}); the others are not affected"
                ) from one
            read.append(one)
        return read

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self._location}: this memory is closed; open it again")
        require_icechunk(self._location)

    def _require_writable(self) -> None:
        self._require_open()
        if self._session.read_only:
            raise ReadOnlyError(
                f"{self._location} is open for reading (mode='r', or at a snapshot); open it with mode='a', or fork it"
            )


def _bytes(row: int, stored: Record) -> bytes:
    return stored.tobytes()
