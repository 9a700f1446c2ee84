"""The main path: what ``store`` and ``retrieve`` do, in the order in which the paper tells it.

Three memories (arXiv 2506.05284, section 3): spatial (the geometry), working (the last frames), episodic (sparse
keyframes, written when a frame reveals enough new area).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from spmem.camera import Camera
from spmem.checks import PoseCheck, ScaleCheck
from spmem.config import MemoryConfig
from spmem.corrections import RereadCache, moves, named, replaced
from spmem.errors import InputError, StoreError
from spmem.forgetting import Forgetting
from spmem.keyframes import Keyframes
from spmem.protocols import (
    DepthEstimator,
    DynamicSegmenter,
    GeometryStore,
    KeyframeStore,
    Retriever,
)
from spmem.query import Query, Selection, number, trajectory
from spmem.retrieval.descriptors import Descriptors
from spmem.retrieval.explain import contributions
from spmem.retrieval.find import FindQuery, matches
from spmem.retrieval.followers import Followers
from spmem.retrieval.rules.covisibility import Covisibility
from spmem.retrieval.visibility.free_space import KnownFreeSpace
from spmem.stores.retention import Policy, RetentionCandidates, choose, coverage
from spmem.types import Frame, Match, Retrieval
from spmem.views import Views
from spmem.where import Where


class SpatialMemory(Forgetting):
    """Geometry-grounded episodic memory over one world; :func:`spmem.open` puts the parts together.

    A context manager: leaving it commits and closes. Not for use by several threads at once. What it does with its
    history is in :class:`spmem.lifecycle.Lifecycle`, how it forgets in :class:`spmem.forgetting.Forgetting`.
    """

    def __init__(
        self,
        geometry: GeometryStore,
        bank: KeyframeStore,
        rule: Callable[[str], Retriever],
        config: MemoryConfig,
        *,
        views: Views | None = None,
        free: tuple[KnownFreeSpace, int] | None = None,
        index: tuple[Covisibility, int] | None = None,
        policy: Policy = coverage,
        recent: Sequence[Frame] = (),
        depth: DepthEstimator | None = None,
        segmenter: DynamicSegmenter | None = None,
        descriptors: Descriptors | None = None,
        save: Callable[[SpatialMemory], None] | None = None,
        again: Callable[[KeyframeStore, bool], SpatialMemory] | None = None,
        device: torch.device | str = "cpu",
        writable: bool = True,
    ) -> None:
        super().__init__(bank, writable=writable)
        self.keyframes = Keyframes(bank)
        self.config = config
        self.recent = deque(recent, maxlen=config.recent)
        self.views = Views() if views is None else views
        self.descriptors = Descriptors() if descriptors is None else descriptors
        self._geometry = geometry
        self._followers = Followers(
            self.views, rule, free or (KnownFreeSpace(config.retrieval.reach), 0), index
        )
        self._policy = policy
        self._depth, self._segmenter = depth, segmenter
        self._checkpoint, self._again = save, again
        self._device = torch.device(device)
        self._uncommitted = self._dropped = 0
        self._next_time = 1.0 + max(
            [-1.0, float(self.views.times.max(initial=-1.0)), *_times(recent)]
        )
        self._checks = (PoseCheck(), ScaleCheck()) if config.check_poses else ()

    @property
    def geometry(self) -> GeometryStore:
        """The spatial memory. What is changed through it is kept by the next commit."""
        self._changed = True
        return self._geometry

    def free_space(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """What of space is known to be empty, and from which views, as arrays; None where nothing asks for it."""
        if self.config.retrieval.reach is not None:
            self._followers.free()
        return self._followers.free_space()

    def voxel_index(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """What finds candidates, and of which views, as arrays; None where nothing asks for it, or it is not kept."""
        retrieval = self.config.retrieval
        if retrieval.method == "covisibility" and retrieval.index == "voxels":
            self._followers.rule("covisibility")
        return self._followers.index()

    # -- store --------------------------------------------------------------------------------------

    def store(self, frame: Frame) -> int | None:
        """Remember a frame.

        Every frame is fused into the map; it also becomes a keyframe where it shows enough that no keyframe shows
        (``config.keyframes.novelty``).

        Args:
            frame: With depth, unless the memory has a depth estimator. Without a time it comes one second
                after the frame before it; the first is at 0.

        Returns:
            The keyframe's id, or None where the frame told nothing new.

        Raises:
            FrameError: No depth and no estimator.
            ConventionError: The poses contradict the depth, and fit under another convention. (Where they fit under
                another scale, there is a warning.)
            ReadOnlyError: The memory was opened with mode="r".
        """
        self._require_writable()
        frame = self._lift(self._dated(frame))
        for check in self._checks:
            check(frame)
        still = self._static(frame)
        surfel_ids = self._geometry.fuse(still)
        self._changed, self._device = True, frame.camera.device
        self.recent.append(frame)
        if len(self.keyframes) and self._novelty(surfel_ids) < self.config.keyframes.novelty:
            return None
        return self._keep(still, surfel_ids)

    def _keep(self, frame: Frame, surfel_ids: Int[Tensor, "h w"]) -> int:
        assert frame.depth is not None
        assert frame.time is not None
        id = self._bank.append(frame)
        self._geometry.observe(id, surfel_ids.reshape(-1))
        depth = self._bank.stored_depth(frame.believed_depth().cpu().numpy())
        self.views.append(id, frame.time, frame.camera, depth)
        self.descriptors.add(id, frame)
        self._bound()
        self._uncommitted += 1
        if self._uncommitted == self.config.keyframes.commit_every:
            # Corrected keyframes and a map of before would contradict each other after a crash.
            message, self._uncommitted = f"keyframe {id}", 0
            if self._corrected:
                self.commit(message)
            else:
                self._bank.commit(message, wait=False)
        return id

    def _bound(self) -> None:
        """Let keyframes go that the budget has no room for. What they showed stays in the map."""
        if self.config.retention.budget is None:
            return
        held = RetentionCandidates(
            self.views.ids, self.views.times, self._bank.sizes(), self._geometry
        )
        ids = choose(held, self.config.retention.budget, self._policy)
        if len(ids):
            self._geometry.unobserve(ids.tolist())
            self._bank.remove(ids)
            self._followers.drop(ids)
            self.descriptors.remove(ids)
            self._corrected, self._dropped = True, self._dropped + len(ids)

    def _novelty(self, surfel_ids: Int[Tensor, "h w"]) -> float:
        """Share of the pixels that show surfels which no keyframe saw."""
        new = (surfel_ids >= 0) & ~self._geometry.observed(surfel_ids)
        return float(new.sum()) / surfel_ids.numel()

    def _dated(self, frame: Frame) -> Frame:
        if not isinstance(frame, Frame):
            raise InputError(f"store takes a spmem.Frame, got {type(frame).__name__}")
        time = self._next_time if frame.time is None else frame.time
        self._next_time = time + 1.0
        return frame if frame.time is not None else frame.replace(time=time)

    def _lift(self, frame: Frame) -> Frame:
        if frame.depth is not None or self._depth is None:
            return frame
        cameras = frame.camera[None]
        known = self._geometry.render(cameras)
        return frame.replace(depth=self._depth(frame.rgb_float()[None], cameras, known)[0])

    def _static(self, frame: Frame) -> Frame:
        """The frame with no confidence in the pixels of what moves."""
        if self._segmenter is None or frame.depth is None:
            return frame
        known = self._geometry.render(frame.camera[None])
        still = ~self._segmenter([frame], known)[0]
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
        self._require_open()
        cameras, k = trajectory(cameras, "retrieve"), number(k)
        name, rule = self._followers.rule(method or self.config.retrieval.method)
        projection = self._followers.free().believed(self._geometry.render(cameras))
        recent = tuple(self.recent)
        held = Views.of(recent if given is None else given)
        query = Query(
            cameras,
            projection,
            held,
            (where or Where()).hides(self.views),
            time,
            seed,
            self._geometry.observers,
            self._bank.read,
        )
        chosen = rule.select(query, self.views, k)
        return Retrieval(
            cameras,
            projection,
            tuple(self.keyframes[int(id)] for id in chosen.ids),
            torch.from_numpy(chosen.scores.astype(np.float32)),
            recent,
            name,
            lambda: contributions(
                query, self.views, chosen, tolerance=self.config.retrieval.tolerance
            ),
            self.keyframes.frames,
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
        :func:`spmem.retrieval.find.matches` says how several are joined.

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
        self._require_open()
        k, asked = number(k), FindQuery(camera, image, text, where)
        looks = asked.vectors(self.descriptors)
        if looks and self.descriptors.complete(self.views.ids, self._bank.read):
            self._changed = self._writable  # so that the next commit keeps them
        found = matches(asked, looks, self.views, k, self.descriptors, self._saw)
        return [Match(self.keyframes[one.id], one.score, one.by) for one in found]

    def _saw(self, camera: Camera, hidden: NDArray[np.int64], k: int) -> Selection:
        cameras = trajectory(camera, "find")
        projection = self._followers.free().believed(self._geometry.render(cameras))
        _, rule = self._followers.rule("covisibility")
        assert isinstance(rule, Covisibility)
        return rule.rank(Query(cameras, projection, Views(), hidden), self.views, k)

    # -- corrections --------------------------------------------------------------------------------

    def update_poses(self, poses: Mapping[int, Any]) -> None:
        """Move keyframes, as after a loop closure: only they are taken out of the map and fused again.

        The map becomes, to bounds that ``docs/geometry.md`` gives, the one that these keyframes would have built. Frames
        that did not become keyframes cannot be read again; they stay in surfels that some other keyframe saw. Working
        memory's copies of the keyframes move with them. Nothing changes where anything is invalid; poses that are the
        present ones are no change. Durable with the next :meth:`commit`.

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
        self._require_writable()
        moved = moves(poses, self._bank)
        if not moved:
            return
        frames = RereadCache(self._read)
        self._geometry.unfuse(list(moved), frames.first)
        self._changed = self._corrected = True
        ids, c2w = np.array(list(moved)), np.stack([pose.numpy() for pose in moved.values()])
        rows = self.views.rows(ids)
        recent = replaced(self.recent, self.views.times[rows], self.views.c2w[rows], c2w)
        self.recent = deque(recent, maxlen=self.config.recent)
        self._bank.move(ids, c2w)
        self._followers.move(ids, c2w)
        for id, pose in moved.items():
            frame = frames.again(id).moved(pose)
            self._geometry.observe(id, self._geometry.fuse(frame).reshape(-1))

    def remove(self, keyframes: int | Iterable[int]) -> None:
        """Take keyframes out of the bank and what they gave out of the map; their ids are never given again.

        Surfels that no other keyframe saw go; the others become what is left without these keyframes, up to the bounds
        of :meth:`update_poses`, but keep their colour until a view as sharp comes. Working memory keeps its frames, and
        earlier snapshots keep all. Nothing changes where one is not there. Durable with the next :meth:`commit`.

        Args:
            keyframes: An id or several.

        Raises:
            KeyframeNotFoundError: A keyframe that is not there.
            CorruptMemoryError: A keyframe's stored pixels are damaged.
            ReadOnlyError: The memory was opened with mode="r".
        """
        self._require_writable()
        ids = named(keyframes if isinstance(keyframes, Iterable) else [keyframes], self._bank)
        if not len(ids):
            return
        self._geometry.unfuse(ids.tolist(), self._read)
        self._changed = self._corrected = True
        self._bank.remove(ids)
        self._followers.remove(ids)
        self.descriptors.remove(ids)

    def _read(self, id: int) -> Frame:
        return self._bank.read(id).to(self._device)

    # -- durability ---------------------------------------------------------------------------------

    def _save(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint(self)
        self._uncommitted = 0

    def _tidy(self) -> None:
        if 4 * self._dropped >= max(len(self.keyframes), 1):
            with suppress(StoreError):  # a fork is open for writing; the next commit tries again
                self._bank.reclaim(keep=1)
                self._dropped = 0

    def _take(self, frame: Frame) -> int:
        frame = frame.to(self._device)
        self._changed = True
        return self._keep(frame, self._geometry.fuse(frame))

    def __repr__(self) -> str:
        return f"SpatialMemory({len(self.keyframes)} keyframes, {len(self._geometry)} surfels)"


def _times(frames: Sequence[Frame]) -> list[float]:
    return [frame.time for frame in frames if frame.time is not None]
