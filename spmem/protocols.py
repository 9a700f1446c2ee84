"""The seams: what a part must do to be used in place of ours (structural; nothing to inherit).

Each has a conformance class in :mod:`spmem.testing` that a third party subclasses to prove its part. Parts that a
configuration or call names are found as entry points of the group ``spmem.<seam>`` (:mod:`spmem.registry`):
geometry_store, renderer, retriever, view_index, depth_estimator, dynamic_segmenter, embedder. The others are handed over as
objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.config import KeyframeConfig, MemoryConfig
from spmem.generating import Generated
from spmem.query import Query, Selection
from spmem.types import Frame, Pointmaps, Projection, Retrieval, Snapshot, Surfels
from spmem.views import Views

Arrays = Mapping[str, NDArray[Any]]

Kept: TypeAlias = tuple[Arrays, Mapping[str, Any]]
"""A named group that is kept beside the keyframes: arrays by name, and attributes that are JSON values."""


@runtime_checkable
class GeometryReader(Protocol):
    """A scene of surfels, to read: what it looks like, and which keyframes saw what."""

    def render(self, cameras: Camera) -> Projection:
        """The scene along a trajectory ``[T]``."""
        ...

    def observed(self, surfel_ids: Int[Tensor, "*b"]) -> Bool[Tensor, "*b"]:
        """Whether some keyframe saw these surfels; False for -1."""
        ...

    def observers(
        self, surfel_ids: Int[Tensor, " n"]
    ) -> tuple[Int[Tensor, " n_plus_1"], Int[Tensor, " m"]]:
        """The keyframes that saw each surfel, as CSR: ``keyframes[offsets[i]:offsets[i + 1]]``, ascending."""
        ...

    def ids(self) -> Int[Tensor, " n"]:
        """The ids of all living surfels, ascending."""
        ...

    def surfels(self) -> Surfels:
        """All living surfels, by ascending id."""
        ...

    def __len__(self) -> int: ...


@runtime_checkable
class GeometryStore(GeometryReader, Protocol):
    """The spatial memory: fuses posed depth into a scene, renders it, knows which keyframes saw what."""

    def fuse(self, frame: Frame) -> Int[Tensor, "h w"]:
        """Merge a frame; returns the surfel id of each pixel, -1 where the pixel went into none."""
        ...

    def observe(self, keyframe: int, surfel_ids: Int[Tensor, " n"]) -> None:
        """Note that a keyframe saw these surfels (ids may repeat; -1 is skipped)."""
        ...

    def unfuse(self, keyframes: Sequence[int], read: Callable[[int], Frame]) -> None:
        """Take back what keyframes gave: what they were observed to see, and their share of it.

        ``read`` gives a keyframe's frame as it was fused, at the pose of then; nothing changes where it raises. What no
        other keyframe saw goes; ids that were never observed are skipped. Fuse and observe the frames again to move them.
        """
        ...

    def unobserve(self, keyframes: Sequence[int]) -> None:
        """Forget that keyframes saw anything; what they gave to the map stays."""
        ...

    def edit(self, surfel_ids: Int[Tensor, " n"], **fields: Tensor) -> None:
        """Overwrite fields (position, normal, radius, colour, confidence, features) of surfels."""
        ...

    def remove(self, surfel_ids: Int[Tensor, " n"]) -> None:
        """Delete surfels; other ids stay valid."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The whole state as arrays, for a checkpoint."""
        ...

    def restore(self, arrays: Arrays, device: torch.device) -> None:
        """Take back, onto a device, what :meth:`arrays` gave; renders and ids are then identical.

        Arrays that own their memory are given away: the store may go on in them.
        """
        ...


@runtime_checkable
class Renderer(Protocol):
    """Draws surfels: what a map shows is up to it."""

    def __call__(self, surfels: Surfels, cameras: Camera) -> Projection:
        """The surfels along a trajectory ``[T]``, on the cameras' device; ids are ``surfels.ids``.

        Pixel centres lie at +0.5, as everywhere. No surfels render nothing: coverage 0. Raises InputError for cameras
        that are not a trajectory, DeviceError for surfels on another device.
        """
        ...


@runtime_checkable
class KeyframeStore(Protocol):
    """The episodic bank: keyframes by ascending id, and groups of arrays beside them.

    This is all that a memory needs. What a store can do besides are capabilities, protocols of their own below; a memory
    asks for one when it is used, and raises StoreError if the store lacks it.
    """

    def append(self, frame: Frame, uid: bytes | None = None) -> int:
        """Keep a keyframe; returns its id, which is larger than all before it.

        ``uid`` is its identity (16 bytes), new if None; it stays the same on every branch and whatever is done to the
        keyframe. Raises FrameError without depth or time, InputError for a uid that is not 16 bytes or is in the bank.
        """
        ...

    def read(self, id: int) -> Frame:
        """One keyframe's frame, on the CPU. Raises KeyframeNotFoundError, CorruptMemoryError."""
        ...

    def ids(self) -> NDArray[np.int64]:
        """All ids, ascending."""
        ...

    def uids(self) -> list[bytes]:
        """The identity of each keyframe (16 bytes), in the order of ids."""
        ...

    def times(self) -> NDArray[np.float64]:
        """Seconds of each keyframe, in the order of ids."""
        ...

    def cameras(self) -> Sequence[Camera]:
        """Camera of each keyframe, in the order of ids (no pixel is read)."""
        ...

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each keyframe, in the order of ids."""
        ...

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Give keyframes other poses ``[n, 4, 4]``; all or none. Raises KeyframeNotFoundError."""
        ...

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Drop keyframes; all or none. Their ids are never given again. Raises KeyframeNotFoundError."""
        ...

    def write_arrays(self, group: str, arrays: Arrays, attributes: Mapping[str, Any]) -> None:
        """Replace a named group of arrays kept beside the keyframes (map checkpoint, index cache, configuration)."""
        ...

    def read_arrays(self, group: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """A named group and its attributes (JSON values), or None."""
        ...

    def close(self) -> None:
        """Release everything, whatever goes wrong; uncommitted writes are dropped."""
        ...

    def __len__(self) -> int: ...


@runtime_checkable
class BatchReadingStore(KeyframeStore, Protocol):
    """A store that reads several keyframes faster together than one after the other."""

    def read_many(self, ids: Sequence[int]) -> list[Frame]:
        """The frames of several keyframes, in the order of ``ids`` (an id may repeat). Raises as :meth:`read` does."""
        ...


@runtime_checkable
class RoundingStore(KeyframeStore, Protocol):
    """A store that does not keep depth exactly."""

    def stored_depth(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """The depth that reading gives back after storing this one, bit for bit (the codec's rounding, no I/O)."""
        ...


@runtime_checkable
class ConfigurableStore(KeyframeStore, Protocol):
    """A store that follows :class:`spmem.KeyframeConfig`."""

    def configure(self, config: KeyframeConfig) -> None:
        """Keep keyframes from now on as the configuration says (quality, durability, cache)."""
        ...


@runtime_checkable
class DescribedStore(KeyframeStore, Protocol):
    """A store that reports what it takes, for ``spmem info``."""

    def describe(self) -> dict[str, Any]:
        """JSON values: ``schema``, ``version`` (of what wrote it), and ``bytes`` by part, with ``total``."""
        ...


@runtime_checkable
class CommittingStore(KeyframeStore, Protocol):
    """A store that makes writes durable together: what is not committed is gone when it closes."""

    def commit(self, message: str, *, wait: bool = True) -> str | None:
        """Make all that was written durable, in one step (a snapshot even of nothing new); returns its id.

        Without ``wait`` a store may do so later and return None; what goes wrong then surfaces at a later call. Raises
        ConflictError if another writer committed meanwhile.
        """
        ...


@runtime_checkable
class BackgroundStore(KeyframeStore, Protocol):
    """A store that writes in the background."""

    def flush(self) -> None:
        """Wait for what is under way in the background; raises what went wrong there."""
        ...


@runtime_checkable
class VersionedStore(CommittingStore, Protocol):
    """A store whose commits are snapshots: it can be read as it was, and go on from there on branches.

    Branches and tags are apart: one of each may bear the same name.
    """

    @property
    def branch(self) -> str:
        """The branch that is open; ``main`` at first."""
        ...

    def snapshots(self) -> list[Snapshot]:
        """Committed states of this branch up to the one that is open, latest first."""
        ...

    def branches(self) -> dict[str, str]:
        """The id of each branch's last snapshot, by branch, in the order of names."""
        ...

    def tags(self) -> dict[str, str]:
        """The ids of tagged snapshots, by tag, in the order of names."""
        ...

    def tag(self, name: str) -> None:
        """Name the last commit. Raises InputError if a tag has the name; a branch may have it too."""
        ...

    def drop_tag(self, name: str) -> None:
        """Remove a tag. Raises SnapshotNotFoundError."""
        ...

    def drop_branch(self, name: str) -> None:
        """Remove a branch (not this one, not ``main``). Raises SnapshotNotFoundError, InputError."""
        ...

    def at(self, snapshot: str) -> VersionedStore:
        """The store as of a snapshot (its id), to read. Raises SnapshotNotFoundError."""
        ...

    def fork(self, name: str) -> VersionedStore:
        """The store as it is now, on a new branch, with what is not committed; the two go on apart. Raises InputError."""
        ...

    def on(self, branch: str) -> VersionedStore:
        """The store on another branch, as last committed there, for writing. Raises SnapshotNotFoundError."""
        ...

    def rollback(self, snapshot: str) -> None:
        """Go back to an earlier snapshot (its id) of this branch, for good. Raises SnapshotNotFoundError, ConflictError."""
        ...

    def reclaim(self, keep: int | None = None) -> int:
        """Delete what nothing leads to, and commits before the last ``keep`` (None ends none); the bytes freed."""
        ...


@runtime_checkable
class RefreshableStore(KeyframeStore, Protocol):
    """A store whose readers can go on to commits that came after they were opened."""

    def refreshed(self) -> KeyframeStore | None:
        """A reader of the branch's last commit; None if this one shows it already.

        Raises StoreError if this store is open for writing or at a snapshot.
        """
        ...


@runtime_checkable
class ViewIndex(Protocol):
    """Nearest descriptors by inner product. Speaks numpy; a cache that can be rebuilt."""

    def add(self, ids: NDArray[np.int64], descriptors: NDArray[np.float32]) -> None:
        """Add ``[n]`` ids with descriptors ``[n, d]``; an id that is there already is replaced."""
        ...

    def search(
        self, queries: NDArray[np.float32], k: int, exclude: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k best of each query ``[q, d]``: scores and ids ``[q, k]``, best first; -inf and -1 fill up.

        ``exclude`` are ids that are not answered; unknown ones are skipped.
        """
        ...

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Forget ids; unknown ones are skipped."""
        ...

    def __len__(self) -> int: ...


@runtime_checkable
class Retriever(Protocol):
    """A rule that picks the keyframes to look at."""

    def observe(self, views: Views, rows: slice) -> None:
        """Rows that are new in ``views``, or changed since (a rule without an index of its own does nothing)."""
        ...

    def select(self, query: Query, views: Views, k: int) -> Selection:
        """At most k keyframe ids, best first, none of ``query.exclude``; fewer where nothing more helps."""
        ...


@runtime_checkable
class Ranker(Protocol):
    """What a rule may do besides: say which keyframes saw a place, each for itself."""

    def rank(self, query: Query, views: Views, k: int) -> Selection:
        """The k keyframes that each saw most of what is asked, best first, ties latest first; those that saw none of it
        are left out, and scores are shares in 0..1 of all the query's pixels.
        """
        ...


@runtime_checkable
class ViewObserver(Protocol):
    """What is made of views alone, as the index of a rule is (:class:`spmem.parts.cache.ViewCache` makes a part of it)."""

    def observe(self, views: Views, rows: slice) -> None:
        """Rows that are new in ``views``, or changed since."""
        ...


@runtime_checkable
class RevocableObserver(ViewObserver, Protocol):
    """An observer that can take back what views gave."""

    def forget(self, views: Views, rows: NDArray[np.int64]) -> None:
        """Take back what rows ``[n]``, as they are, were observed to give."""
        ...


@runtime_checkable
class KeptObserver(ViewObserver, Protocol):
    """An observer that is kept beside the memory, so that opening need not make it again: the index of a rule."""

    def arrays(self, views: Views) -> Arrays | None:
        """What was made of these views, which are all that there are; None if there is nothing to keep."""
        ...

    def restore(self, arrays: Arrays, ids: NDArray[np.int64]) -> None:
        """Inverse of :meth:`arrays`, for views of these ids ``[n]``; no change if it raises.

        Raises KeyError or ValueError for arrays that no observer of such views gives.
        """
        ...


@dataclass(frozen=True, eq=False)
class Observation:
    """A frame that a memory took.

    frame: As it came, with depth and time.
    fused: As the map took it, on the map's device: without confidence in what moves.
    surfel_ids: ``[H, W]``, of each pixel in the map; -1 if it went into none.
    keyframe: The id under which the bank keeps ``fused``; None if the frame showed nothing new.
    uid: The keyframe's identity on every branch.
    live: Whether it is one of the last frames; one that was merged from another branch is not.
    """

    frame: Frame
    fused: Frame
    surfel_ids: Int[Tensor, "h w"]
    keyframe: int | None = None
    uid: bytes | None = None
    live: bool = True


@dataclass(frozen=True, eq=False)
class PartContext:
    """What a part is made with.

    config: Of the memory.
    bank: The keyframes; opened at the state that the part is to be of.
    views: Of all keyframes. A part is called before views are moved or dropped.
    device: Where the map lives.
    embedder: What describes images, or None.
    """

    config: MemoryConfig
    bank: KeyframeStore
    views: Views
    device: torch.device
    embedder: Embedder | None = None


@runtime_checkable
class Part(Protocol):
    """Derived state of a memory: what is made of its frames, kept in step with the keyframes and kept beside them.

    Made with a :class:`PartContext` and then restored, once. A memory that goes back in history makes all parts again.

    name: Of the group that it is kept in: letters, digits and _ . -
    derived: Whether keyframes alone make it again. Rebuilding a memory then does; what is not derived stays.
    cache: Whether what keyframes make is as good, so that a group that is damaged or missing is no error.
    """

    name: str
    derived: bool
    cache: bool

    def observe(self, seen: Observation) -> None:
        """A frame was taken: fused, and kept if it is a keyframe."""
        ...

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Keyframes get other poses ``[n, 4, 4]``, ids ascending; ``context.views`` still has the old ones."""
        ...

    def drop(self, ids: NDArray[np.int64], *, keep: bool) -> None:
        """Keyframes go, ids ascending, of which the last may be one that this part did not observe; ``context.views`` still has
        them.

        ``keep``: What they showed stays known (a budget was full); otherwise it is taken back.
        """
        ...

    def arrays(self) -> Kept | None:
        """What to keep, in step with all keyframes; None leaves the group as it is stored."""
        ...

    def restore(self, kept: Kept | None) -> None:
        """Take back what :meth:`arrays` gave for these or for earlier keyframes; None or no arrays: nothing was kept.

        Keyframes that came since are for the part to add, now or when it is asked. Raises LookupError, ValueError,
        TypeError or the like for arrays that :meth:`arrays` does not give, and is restored with None then.
        """
        ...

    def verify(self, kept: Kept) -> str | None:
        """What is wrong with a stored group, in words, or None; raises as :meth:`restore` does.

        Called on a part that was not restored, in a context whose views are made from the keyframes.
        """
        ...


@runtime_checkable
class ProjectionFilter(Protocol):
    """What a part may do besides: say what of a projection is believed."""

    def believed(self, projection: Projection) -> Projection:
        """The projection, with False in the mask where it is not believed."""
        ...


@runtime_checkable
class ImageIndex(Protocol):
    """What a part may do besides: find keyframes by what their images look like."""

    def complete(self) -> bool:
        """Describe those keyframes that are not described yet; True if there were any."""
        ...

    def of_image(self, rgb: Float[Tensor, "h w 3"]) -> NDArray[np.float32]:
        """The descriptor ``[dim]`` of an image in [0, 1]."""
        ...

    def of_text(self, text: str) -> NDArray[np.float32]:
        """The descriptor ``[dim]`` of words. Raises InputError if it describes images only."""
        ...

    def of(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The descriptors ``[n, dim]`` of keyframes."""
        ...

    def nearest(
        self, asked: NDArray[np.float32], k: int, hidden: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Ids of at most k keyframes whose descriptors are nearest to ``[dim]``, best first, none of ``hidden``."""
        ...


@runtime_checkable
class Memory(Protocol):
    """The two calls."""

    def store(self, frame: Frame) -> int | None:
        """Remember a frame; the keyframe's id, or None where it told nothing new."""
        ...

    def retrieve(self, cameras: Camera, *, k: int = 4, method: str | None = None) -> Retrieval:
        """All that must stay consistent when these cameras are generated."""
        ...


@runtime_checkable
class Generator(Protocol):
    """An autoregressive video model: conditioned on a retrieval, it makes the frames of the cameras asked.

    It may say more about itself in an attribute ``spec`` (:class:`spmem.GeneratorSpec`): the numbers of frames and the
    sizes that it can make, other layouts and ranges of what it returns, frames that it repeats, a state that it wants
    back, callbacks. :func:`spmem.from_function` makes one of a plain function.
    """

    def condition(self, context: Retrieval, prompt: str | None = None) -> Any:
        """What the model takes of the context (its own type)."""
        ...

    def generate(
        self, conditioning: Any, cameras: Camera, *, seed: int = 0
    ) -> Float[Tensor, "t h w 3"] | Generated:
        """The frames along cameras ``[T]``, in [0, 1]; the same seed gives the same frames."""
        ...


@runtime_checkable
class DepthEstimator(Protocol):
    """Lifts generated frames to depth, in the scale of the memory's projection."""

    def __call__(
        self, rgb: Float[Tensor, "t h w 3"], cameras: Camera, known: Projection | None = None
    ) -> Float[Tensor, "t h w"]:
        """z-depth of the frames, 0 = none; ``known`` is what memory renders there, to take the scale from."""
        ...


@runtime_checkable
class PointmapEstimator(Protocol):
    """Estimates geometry and cameras of frames together (VGGT, MapAnything, Depth Anything 3 and their like)."""

    def __call__(self, rgb: Float[Tensor, "t h w 3"], cameras: Camera | None = None) -> Pointmaps:
        """Depth and cameras in a world of their own; ``cameras`` are hints for a network that takes any."""
        ...


@runtime_checkable
class DynamicSegmenter(Protocol):
    """Says which pixels move by themselves, so that they stay out of the static map."""

    def __call__(
        self, frames: Sequence[Frame], known: Projection | None = None
    ) -> Bool[Tensor, "t h w"]:
        """True where a pixel belongs to something that moves."""
        ...


@runtime_checkable
class PoseTracker(Protocol):
    """Finds the camera of a frame against what memory knows."""

    def __call__(
        self,
        rgb: Float[Tensor, "h w 3"],
        depth: Float[Tensor, "h w"] | None,
        guess: Camera,
        memory: Memory,
    ) -> Camera:
        """The frame's camera, from a first guess (the last pose, odometry)."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Describes images by unit vectors whose inner product says how alike they are."""

    dim: int

    def __call__(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n dim"]:
        """Descriptors of unit length, float32, on the images' device."""
        ...


@runtime_checkable
class TextEmbedder(Embedder, Protocol):
    """An embedder whose descriptors words can be compared with."""

    def text(self, texts: Sequence[str]) -> Float[Tensor, "n dim"]:
        """Descriptors of unit length, float32; the inner product with an image's says how well they fit."""
        ...
