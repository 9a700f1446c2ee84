"""The main path: what ``store`` and ``retrieve`` do, in the order in which the paper describes it.

Three memories (arXiv 2506.05284, section 3): spatial (the geometry), working (the last frames), episodic (sparse
keyframes, written when a frame reveals enough new area).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from spmem import corrections, forgetting
from spmem.camera import Camera
from spmem.config import MemoryConfig, RetrievalConfig
from spmem.errors import InputError, StoreError
from spmem.finding import FindQuery, matches
from spmem.history import History
from spmem.keyframes import Keyframes
from spmem.parts.map import MapView
from spmem.protocols import (
    DepthEstimator,
    DynamicSegmenter,
    KeyframeStore,
    Part,
    Ranker,
    Retriever,
)
from spmem.query import Query, Selection, number, require_query, trajectory
from spmem.registry import find, make, require_known
from spmem.returned import depth_from, moving_from, selection_from
from spmem.state import Options, State
from spmem.torch_modes import methods_out_of_modes
from spmem.types import Frame, Match, Projection, Retrieval, Snapshot
from spmem.views import Views
from spmem.where import Where

if TYPE_CHECKING:
    from typing import Self

    from spmem.forgetting import Box, Span


@methods_out_of_modes
class SpatialMemory:
    """Geometry-grounded episodic memory over one world; :func:`spmem.open` puts the parts together.

    A context manager: leaving it commits and closes. Not for use by several threads at once.

    Args:
        state: The keyframes, and the parts that are made of them.
    """

    def __init__(self, state: State) -> None:
        self._history = History(state)
        self._depth: DepthEstimator | None = make("depth_estimator", state.options.depth)
        self._segmenter: DynamicSegmenter | None = make(
            "dynamic_segmenter", state.options.segmenter
        )

    @property
    def _state(self) -> State:
        return self._history.state

    @property
    def config(self) -> MemoryConfig:
        """The configuration."""
        return self._state.config

    @property
    def keyframes(self) -> Keyframes:
        """Episodic memory: keyframes by id, whose pixels are read when they are asked for."""
        return Keyframes(self._state.bank)

    @property
    def recent(self) -> tuple[Frame, ...]:
        """Working memory: the last frames, the oldest first."""
        return tuple(self._state.recent)

    @property
    def geometry(self) -> MapView:
        """Spatial memory, to read. It is changed by methods of the memory alone."""
        return MapView(self._state.map.store)

    @property
    def views(self) -> Views:
        """What retrieval knows of every keyframe without reading its pixels; not to be changed."""
        return self._state.views

    def part(self, name: str) -> Part:
        """A part of the memory by its name, as ``geometry``, or one that an installed package registers.

        To ask it; only the memory changes it. It is in step with the keyframes, and replaced by another one when the memory
        goes back in history or is rebuilt.

        Raises:
            UnknownNameError: No part has this name.
        """
        parts = self._state.parts
        require_known("part", name, parts)
        return parts[name]

    @property
    def branch(self) -> str:
        """The line of history that is open."""
        return self._history.versioned("branch").branch

    # -- store --------------------------------------------------------------------------------------

    def store(self, frame: Frame) -> int | None:
        """Remember a frame.

        Every frame is fused into the map; it also becomes a keyframe where it shows enough that no keyframe shows
        (``config.keyframes.novelty``).

        Args:
            frame: With depth, unless the memory has a depth estimator. Without a time it comes one second
                after the frame before it; the first is at 0.

        Returns:
            The keyframe's id, or None if the frame added nothing new.

        Raises:
            FrameError: No depth and no estimator.
            ConventionError: The poses contradict the depth, and fit under another convention. (If they fit under
                another scale, there is a warning.)
            InputError: The frame, or what an estimator, segmenter, embedder or retention policy returned for it, is not
                what it must be (the error says which, and what came). Nothing of the frame is stored; if an embedder or a
                policy was wrong, the map is as after :meth:`remove`.
            ReadOnlyError: The memory was opened with mode="r".
        """
        self._history.require_writable()
        if not isinstance(frame, Frame):
            raise InputError(f"store takes a spmem.Frame, got {type(frame).__name__}")
        state = self._state
        frame = state.dated(frame.checked())
        known = cache(lambda: state.map.store.render(frame.camera[None]))  # once, for all who look
        frame = self._lift(frame, known)
        state.check(frame)
        return state.store(frame, self._static(frame, known))

    def _lift(self, frame: Frame, known: Callable[[], Projection]) -> Frame:
        if frame.depth is not None or self._depth is None:
            return frame
        rgb, cameras = frame.rgb_float()[None], frame.camera[None]
        return frame.replace(depth=depth_from(self._depth, rgb, cameras, known())[0])

    def _static(self, frame: Frame, known: Callable[[], Projection]) -> Frame:
        """The frame with no confidence in the pixels of what moves."""
        if self._segmenter is None or frame.depth is None:
            return frame
        still = ~moving_from(self._segmenter, [frame], known())[0]
        confidence = torch.ones_like(frame.depth) if frame.confidence is None else frame.confidence
        return frame.replace(confidence=confidence * still)

    # -- retrieve -----------------------------------------------------------------------------------

    def retrieve(
        self,
        cameras: Camera,
        *,
        k: int = 4,
        method: str | Retriever | None = None,
        where: Where | None = None,
        given: Sequence[Frame] | None = None,
        time: float | None = None,
        seed: int = 0,
    ) -> Retrieval:
        """All that must stay consistent when these cameras are generated.

        Args:
            cameras: A trajectory ``[T]``, or a single camera (T = 1).
            k: Keyframes wanted at most.
            method: A retrieval rule by name, or a rule of your own (any :class:`spmem.protocols.Retriever`; the
                memory shows it every keyframe once); None takes ``config.retrieval.method``.
            where: Restricts the answer to keyframes of a time span or a region, or without some: ``Where(exclude=ids)``.
            given: Frames that the generator holds already, so that no keyframe is spent on what they show; None
                takes the working memory.
            time: Seconds at which the first camera is to be generated, for rules that know age.
            seed: For rules that draw.

        Raises:
            InputError: More than one leading dimension, negative k.
            UnknownNameError: No rule has this name.
            DeviceError: Cameras and map on different devices.
        """
        self._history.require_open()
        state = self._state
        cameras, k = trajectory(cameras, "retrieve"), number(k)
        require_query(method, where, given, time, seed)
        name, rule = state.rule(method or self.config.retrieval.method)
        recent = self.recent
        query = Query(
            cameras=cameras,
            projection=state.render(cameras),
            given=Views.of(recent if given is None else given),
            exclude=(where or Where()).hides(state.views),
            time=time,
            seed=seed,
            observers=state.map.store.observers,
            read=state.bank.read,
        )
        chosen = selection_from(rule, query, state.views, k)
        keyframes = self.keyframes
        return Retrieval(
            cameras=cameras,
            projection=query.projection,
            keyframes=tuple(keyframes[int(id)].to(cameras.device) for id in chosen.ids),
            scores=torch.from_numpy(chosen.scores.astype(np.float32)),
            recent=recent,
            method=name,
            _explain=partial(
                find("explanation", "visible-share"),
                query,
                state.views,
                chosen,
                tolerance=self.config.retrieval.tolerance,
            ),
            _read=keyframes.frames,
        )

    def find(
        self,
        *,
        camera: Camera | None = None,
        image: Any = None,
        text: str | None = None,
        where: Where | None = None,
        k: int = 8,
    ) -> list[Match]:
        """The keyframes that match what is asked, best first: by one thing or by several.

        Where ``retrieve`` chooses keyframes that together show what a generator needs, each is found here for itself.
        :func:`spmem.finding.matches` says how several are joined.

        Args:
            camera: Single or a trajectory ``[T]``: scored by the share of what memory renders there that each keyframe
                saw, exactly. A keyframe that saw none of it does not match, so an unknown place finds nothing.
            image: ``[H, W, 3]`` uint8 or float in [0, 1], or a Frame: scored by how alike the embedder finds them.
            text: Words, where the memory's embedder reads them.
            where: Restricts the answer to a time span or a region; alone, the latest come first.
            k: Keyframes wanted at most.

        Raises:
            InputError: Nothing is asked, text of an embedder that reads none, negative k.
            FrameError: No image.
        """
        self._history.require_open()
        state = self._state
        k, asked = number(k), FindQuery(camera, image, text, where)
        images = state.images()
        looks = asked.vectors(images)
        if looks and images.complete():
            state.changed = state.writable  # so that the next commit keeps them
        found = matches(asked, looks, state.views, k, images, self._saw)
        keyframes = self.keyframes
        return [Match(keyframes[one.id], one.score, one.by) for one in found]

    def _saw(self, camera: Camera, hidden: NDArray[np.int64], k: int) -> Selection:
        cameras = trajectory(camera, "find")
        query = Query(cameras, self._state.render(cameras), given=Views(), exclude=hidden)
        return self._ranker().rank(query, self._state.views, k)

    def _ranker(self) -> Ranker:
        """The configured rule if it ranks keyframes, each for itself; otherwise the default rule."""
        _, rule = self._state.rule(self.config.retrieval.method)
        if not isinstance(rule, Ranker):
            _, rule = self._state.rule(RetrievalConfig().method)
        assert isinstance(rule, Ranker)
        return rule

    # -- corrections --------------------------------------------------------------------------------

    def update_poses(self, poses: Mapping[int, Any]) -> None:
        """Move keyframes, as after a loop closure: only they are taken out of the map and fused again.

        The map becomes, to bounds that ``docs/geometry.md`` gives, the one that these keyframes would have built. Frames
        that did not become keyframes cannot be read again; they stay in surfels that some other keyframe saw. Working
        memory's copies of the keyframes move with them. Nothing changes if anything is invalid, or if poses are the
        present ones. Durable with the next :meth:`commit`.

        Args:
            poses: Camera-to-world matrices ``[4, 4]`` (OpenCV axes, any array-likes) by keyframe id.

        Raises:
            KeyframeNotFoundError: A keyframe that is not there.
            CameraError: A pose of a wrong shape, not finite, or not rigid.
            CorruptMemoryError: A keyframe's stored pixels are damaged.
            ReadOnlyError: The memory was opened with mode="r".

        Example:
            >>> import spmem
            >>> from spmem.testing.box import BoxRoom
            >>> memory, room = spmem.open(), BoxRoom()
            >>> id = memory.store(room.frames(room.walk(1, width=64, height=48))[0])
            >>> pose = memory.keyframes[id].camera.c2w.clone()
            >>> pose[0, 3] += 0.02
            >>> memory.update_poses({id: pose})
            >>> round(float(memory.keyframes[id].camera.position[0]), 2)
            -0.18
        """
        self._history.require_writable()
        corrections.update_poses(self._state, poses)

    def remove(self, keyframes: int | Iterable[int]) -> None:
        """Take keyframes out of the bank and what they gave out of the map; their ids are never given again.

        Surfels that no other keyframe saw go; the others become what is left without these keyframes, up to the bounds
        of :meth:`update_poses`, but keep their colour until a view as sharp comes. Working memory keeps its frames, and
        earlier snapshots keep all. Nothing changes if one is not there. Durable with the next :meth:`commit`.

        Args:
            keyframes: An id or several.

        Raises:
            KeyframeNotFoundError: A keyframe that is not there.
            CorruptMemoryError: A keyframe's stored pixels are damaged.
            ReadOnlyError: The memory was opened with mode="r".
        """
        self._history.require_writable()
        corrections.remove(self._state, keyframes)

    def remove_surfels(self, surfel_ids: Int[Tensor, " n"]) -> None:
        """Delete surfels from the map; other ids stay valid. :meth:`rebuild` brings them back.

        Args:
            surfel_ids: As ``geometry.ids()`` and ``projection.surfel_ids`` give them.

        Raises:
            InputError: An id that does not exist.
            ReadOnlyError: The memory was opened with mode="r".
        """
        self._history.require_writable()
        self._state.map.store.remove(surfel_ids)
        self._state.changed = True

    def edit_surfels(self, surfel_ids: Int[Tensor, " n"], **fields: Tensor) -> None:
        """Overwrite fields of surfels in the map. :meth:`rebuild` undoes it.

        Args:
            surfel_ids: As ``geometry.ids()`` and ``projection.surfel_ids`` give them.
            fields: Any of position ``[n, 3]``, normal ``[n, 3]``, radius ``[n]``, colour ``[n, 3]``, confidence ``[n]``
                and features ``[n, C]``, as :class:`spmem.Surfels` has them.

        Raises:
            InputError: A field or id that does not exist, a wrong shape, values that are not finite.
            ReadOnlyError: The memory was opened with mode="r".
        """
        self._history.require_writable()
        self._state.map.store.edit(surfel_ids, **fields)
        self._state.changed = True

    # -- forgetting ---------------------------------------------------------------------------------

    def forget(
        self,
        *,
        keyframes: int | Iterable[int] = (),
        time: Span | None = None,
        region: Box | None = None,
        history: bool = True,
    ) -> None:
        """Forget keyframes, a time, or a place, so that nothing of it can be read from the storage any more.

        What is forgotten loses its pixels, depth, descriptors and views, and the map is fused again from the keyframes
        that are left (frames that did not become keyframes are in no map then). Committed when it returns. Whereas
        :meth:`remove` keeps the map fast and history whole, this is thorough and slow.

        Args:
            keyframes: An id or several, as this branch numbers them; exactly these keyframes go, on all branches.
            time: Seconds (start, end), both included; None at an end leaves it open.
            region: A box between two corners (low, high), world units. Keyframes that saw into it come back under new
                ids, without the pixels within it, and without those of unknown depth whose rays meet it.
            history: Forget it in all other branches too, and end all history: earlier commits and tags go, and the
                bytes are deleted. Without it, earlier snapshots and other branches still have what is forgotten here.

        Raises:
            InputError: Nothing is named, a span or box that is none.
            KeyframeNotFoundError: A keyframe that is not there.
            StoreError: With ``history``, when the memory is open for writing elsewhere; it is forgotten in all branches
                then, but the bytes are still there: close the other and call :meth:`reclaim` with ``keep=1``.
            ReadOnlyError: The memory was opened to read.
        """
        forgetting.forget(
            self._history, keyframes=keyframes, time=time, region=region, history=history
        )

    def rebuild(self) -> None:
        """Make the map, and all else that is derived, again from the keyframes; durable with the next commit.

        Frames that did not become keyframes are not in the map then. About a tenth of a second a keyframe of 640x480.

        Raises:
            CorruptMemoryError: A keyframe's stored pixels are damaged.
            ReadOnlyError: The memory was opened with mode="r".
        """
        self._history.require_writable()
        self._history.state = self._state.rebuilt()

    # -- commits ------------------------------------------------------------------------------------

    def commit(self, message: str = "") -> str | None:
        """Make everything durable in one step; the snapshot's id, or None where nothing changed.

        Raises:
            ConflictError: Another writer committed to this branch; :meth:`fork` keeps what this memory holds.
            StoreError: The disk is full: the last commit is intact, commit again once there is space.
            ReadOnlyError: The memory was opened to read.
        """
        return self._history.commit(message)

    def flush(self) -> None:
        """Wait until what was stored, and the automatic commits so far, are written.

        Raises:
            StoreError: Something could not be written in the background.
        """
        self._history.flush()

    def snapshots(self) -> list[Snapshot]:
        """Committed states of this branch, latest first."""
        return self._history.snapshots()

    def refresh(self) -> bool:
        """Go on to the last commit of the branch: a memory opened with ``mode="r"`` shows one commit until then.

        What was handed out before (retrievals, keyframes) stays as it is. If the new commit cannot be read, the memory
        stays where it was.

        Returns:
            True if there was a new commit, False if the memory shows the last one already.

        Raises:
            StoreError: The memory is open for writing, at a snapshot, or in RAM.
            SnapshotNotFoundError: The branch was dropped.
            CorruptMemoryError: The new commit is damaged.
        """
        return self._history.refresh()

    # -- history ------------------------------------------------------------------------------------

    def at(
        self,
        snapshot: str | Snapshot | None = None,
        *,
        tag: str | None = None,
        branch: str | None = None,
        time: float | None = None,
    ) -> Self:
        """The memory as it was, to read; its answers never change, bit for bit.

        Args:
            snapshot: One of :meth:`snapshots`, or its id.
            tag: The name of a tag.
            branch: The name of a branch: its last commit.
            time: Seconds in the memory's own time: the last commit that holds no keyframe after it.

        Raises:
            SnapshotNotFoundError: There is none.
            InputError: Not exactly one of them is given.
        """
        past = self._history.at(snapshot, tag=tag, branch=branch, time=time)
        return type(self)(past)

    def fork(self, name: str) -> Self:
        """A memory that goes on from here on a branch of its own ("what if the camera turned left").

        It shares all that is stored. What is not committed here goes along, so that it also saves the work of a memory
        whose commit was refused. A memory :meth:`at` a snapshot forks from there. Open it again with
        ``spmem.open(path, branch=name)``.

        Raises:
            InputError: The name is taken, or is no name.
        """
        return type(self)(self._history.fork(name))

    def rollback(
        self,
        steps: int | None = None,
        *,
        snapshot: str | Snapshot | None = None,
        tag: str | None = None,
    ) -> None:
        """Go back to an earlier commit of this branch; what came after it is gone, here and on the branch.

        Args:
            steps: Commits to go back from the last one; 0 drops what was not committed. 1 if nothing is given.
            snapshot: One of :meth:`snapshots`, or its id.
            tag: The name of a tag.

        Raises:
            SnapshotNotFoundError: The branch does not go back so far, or has no such snapshot.
            ConflictError: Another writer committed to this branch.
            InputError: More than one of them is given, or ``steps`` is no whole number.
            ReadOnlyError: The memory was opened to read.
        """
        self._history.rollback(steps, snapshot=snapshot, tag=tag)

    def branches(self) -> list[str]:
        """The names of all branches; ``main`` is the one that opens by itself."""
        return self._history.branches()

    def tags(self) -> dict[str, str]:
        """The snapshots that have names."""
        return self._history.tags()

    def tag(self, name: str) -> None:
        """Commit, and name the commit. A tag may bear a branch's name; the two are apart.

        Raises:
            InputError: Another tag has the name, or had it (a tag never names another commit); or it is no name.
        """
        self._history.tag(name)

    def drop(self, *, branch: str | None = None, tag: str | None = None) -> None:
        """Remove a branch (not this one, not ``main``) or a tag; :meth:`reclaim` then frees what only it led to.

        Raises:
            SnapshotNotFoundError: There is none of this name.
            InputError: Not exactly one of the two is given, or the branch has to stay.
        """
        self._history.drop(branch=branch, tag=tag)

    def reclaim(self, keep: int | None = None) -> int:
        """Commit, then delete from the disk what no commit, branch or tag leads to; the bytes that were freed.

        Args:
            keep: Commits of this branch to keep. Earlier ones end, those of other branches from before that time too,
                but for each branch's last and for tags. None ends none.

        Raises:
            StoreError: The memory is open for writing elsewhere, a fork of this one included.
        """
        return self._history.reclaim(keep)

    def merge(
        self,
        branch: str | None = None,
        *,
        tag: str | None = None,
        snapshot: str | Snapshot | None = None,
    ) -> dict[int, int]:
        """Store the keyframes that another branch has, and had not when the two parted.

        They are fused and kept in their order, under new ids. What the other branch saw in frames that did not become
        keyframes is not taken. Keyframes that were merged before are not taken again, even if they were removed here
        since: a keyframe keeps its identity on every branch.

        Args:
            branch: The name of a branch: as of its last commit.
            tag: The name of a tag.
            snapshot: A snapshot, or its id.

        Returns:
            New ids by the ids that the other branch knows them by.

        Raises:
            InputError: Not exactly one of them is given.
            SnapshotNotFoundError: There is none of this name.
            ConflictError: The two have keyframes in common and no commit, or the other one moved or removed keyframes
                from before they parted: a merge cannot decide which poses are right.
        """
        return self._history.merge(branch, tag=tag, snapshot=snapshot)

    # -- closing ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Commit what is not yet durable and release the storage, whatever goes wrong; closing twice is fine.

        Raises:
            ConflictError: Another writer committed to this branch; what was not committed here is gone.
            StoreError: It could not be written.
        """
        self._history.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except Exception as raised:
            if error is None:
                raise
            error.add_note(f"closing the memory failed too: {type(raised).__name__}: {raised}")

    def __reduce__(self) -> tuple[object, ...]:
        """A memory that is open to read travels to another process as its address, and opens there at the same commit.

        Raises:
            StoreError: The memory is open for writing, or in RAM.
        """
        self._history.require_open()
        if self._state.writable:
            raise StoreError(
                "a memory that is open for writing stays in its process: commit, and send a reader, "
                'spmem.open(path, mode="r"); of a memory in RAM send what retrieve() returns'
            )
        return _arrived, (type(self), self._state.bank, self._state.options)

    def __repr__(self) -> str:
        return f"SpatialMemory({len(self.keyframes)} keyframes, {len(self.geometry)} surfels)"


def _arrived(kind: type[SpatialMemory], bank: KeyframeStore, options: Options) -> SpatialMemory:
    """A reader that came from another process."""
    return kind(State(bank, options, writable=False))
