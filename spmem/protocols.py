"""The seams: what a part must do to be used in place of ours (structural; nothing to inherit).

Each has a conformance class in :mod:`spmem.testing` that a third party subclasses to prove its part. Parts that a
configuration or call names are found as entry points of the group ``spmem.<seam>`` (:mod:`spmem.registry`):
geometry_store, renderer, retriever, view_index, depth_estimator, dynamic_segmenter, embedder. The others are handed over as
objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.generating import Generated
from spmem.query import Query, Selection
from spmem.types import Frame, Pointmaps, Projection, Retrieval, Snapshot, Surfels
from spmem.views import Views

Arrays = Mapping[str, NDArray[Any]]


@runtime_checkable
class GeometryStore(Protocol):
    """The spatial memory: fuses posed depth into a scene, renders it, knows which keyframes saw what."""

    def fuse(self, frame: Frame) -> Int[Tensor, "h w"]:
        """Merge a frame; returns the surfel id of each pixel, -1 where the pixel went into none."""
        ...

    def render(self, cameras: Camera) -> Projection:
        """The scene along a trajectory ``[T]``."""
        ...

    def observe(self, keyframe: int, surfel_ids: Int[Tensor, " n"]) -> None:
        """Note that a keyframe saw these surfels (ids may repeat; -1 is skipped)."""
        ...

    def observed(self, surfel_ids: Int[Tensor, "*b"]) -> Bool[Tensor, "*b"]:
        """Whether some keyframe saw these surfels; False for -1."""
        ...

    def observers(
        self, surfel_ids: Int[Tensor, " n"]
    ) -> tuple[Int[Tensor, " n_plus_1"], Int[Tensor, " m"]]:
        """The keyframes that saw each surfel, as CSR: ``keyframes[offsets[i]:offsets[i + 1]]``, ascending."""
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

    def ids(self) -> Int[Tensor, " n"]:
        """The ids of all living surfels, ascending."""
        ...

    def surfels(self) -> Surfels:
        """All living surfels, by ascending id."""
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

    def __len__(self) -> int: ...


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
    """The episodic bank: keyframes by ascending id, written durably, read lazily.

    ``branch`` names the line of history that is open, ``main`` at first.
    """

    branch: str

    def append(self, frame: Frame, uid: bytes | None = None) -> int:
        """Write a keyframe; returns its id. Durable after :meth:`commit`.

        ``uid`` is its identity (16 bytes), new if None; it stays the same on every branch and whatever is done to the
        keyframe. Raises FrameError without depth or time, InputError for a uid that is not 16 bytes or is in the bank.
        """
        ...

    def read(self, id: int) -> Frame:
        """One keyframe's frame, on the CPU. Raises KeyframeNotFoundError, CorruptMemoryError."""
        ...

    def read_many(self, ids: Sequence[int]) -> list[Frame]:
        """The frames of several keyframes, in the order asked (an id may repeat); faster than one after the other.

        Raises as :meth:`read` does where one cannot be read.
        """
        ...

    def stored_depth(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """The depth that reading gives back after storing this one (the codec's rounding, no I/O)."""
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

    def write_arrays(self, group: str, arrays: Arrays, attributes: Mapping[str, Any]) -> None:
        """Replace a named group of arrays kept beside the keyframes (map checkpoint, index cache, configuration)."""
        ...

    def read_arrays(self, group: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """A named group and its attributes (JSON values), or None."""
        ...

    def move(self, ids: NDArray[np.int64], c2w: NDArray[np.float32]) -> None:
        """Give keyframes other poses ``[n, 4, 4]``; all or none. Raises KeyframeNotFoundError."""
        ...

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Drop keyframes; all or none. Their ids are never given again. Raises KeyframeNotFoundError."""
        ...

    def commit(self, message: str, *, wait: bool = True) -> str | None:
        """Make all that was written durable, in one step (a snapshot even of nothing new); returns its id.

        Without ``wait`` a store may do so later and answer None; what goes wrong then surfaces at a later call.
        """
        ...

    def flush(self) -> None:
        """Wait for what is under way in the background; raises what went wrong there."""
        ...

    def snapshots(self) -> list[Snapshot]:
        """Committed states of this branch up to the one that is open, latest first."""
        ...

    def at(self, snapshot: str) -> KeyframeStore:
        """The store as of a snapshot (its id), to read. Raises SnapshotNotFoundError."""
        ...

    def fork(self, name: str) -> KeyframeStore:
        """The store as it is now, on a new branch, with what is not committed; the two go on apart. Raises InputError."""
        ...

    def on(self, branch: str) -> KeyframeStore:
        """The store on another branch, as last committed there, for writing. Raises SnapshotNotFoundError."""
        ...

    def rollback(self, snapshot: str) -> None:
        """Go back to an earlier snapshot (its id) of this branch, for good. Raises SnapshotNotFoundError, ConflictError."""
        ...

    def tag(self, name: str) -> None:
        """Name the last commit. Raises InputError if a tag has the name; a branch may have it too."""
        ...

    def tags(self) -> dict[str, str]:
        """The ids of tagged snapshots, by tag, in the order of names."""
        ...

    def branches(self) -> dict[str, str]:
        """The id of each branch's last snapshot, by branch, in the order of names."""
        ...

    def drop_tag(self, name: str) -> None:
        """Remove a tag. Raises SnapshotNotFoundError."""
        ...

    def drop_branch(self, name: str) -> None:
        """Remove a branch (not this one, not ``main``). Raises SnapshotNotFoundError, InputError."""
        ...

    def reclaim(self, keep: int | None = None) -> int:
        """Delete what nothing leads to, and commits before the last ``keep`` (None ends none); bytes that were freed."""
        ...

    def close(self) -> None:
        """Release what is held; uncommitted writes are dropped."""
        ...

    def __len__(self) -> int: ...


@runtime_checkable
class RefreshableStore(Protocol):
    """A keyframe store whose readers can go on to commits that came after they were opened."""

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
