"""Conformance of geometry stores: subclass, give the fixture, and pytest proves the store.

Needs pytest. Example::

    class TestMyMap(GeometryStoreTests):
        @pytest.fixture
        def make(self):
            return MyMap
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from spmem.camera import Camera
from spmem.errors import FrameError, InputError
from spmem.protocols import GeometryStore
from spmem.testing.box import BoxRoom
from spmem.types import Frame

WIDTH, HEIGHT = 96, 72


class GeometryStoreTests:
    """What every :class:`spmem.protocols.GeometryStore` does, on an analytic room with exact depth."""

    @pytest.fixture
    def make(self) -> Callable[[], GeometryStore]:
        """Override: makes an empty store."""
        raise AssertionError(
            "subclasses give the fixture `make`: a callable that makes an empty store"
        )

    @pytest.fixture
    def room(self) -> BoxRoom:
        """The scene."""
        return BoxRoom()

    @pytest.fixture
    def frames(self, room: BoxRoom) -> list[Frame]:
        """Six views that overlap, and turn away."""
        return room.frames(room.walk(6, width=WIDTH, height=HEIGHT, sweep=1.5), time=0.0)

    def test_is_a_geometry_store(self, make: Callable[[], GeometryStore]) -> None:
        assert isinstance(make(), GeometryStore)

    def test_an_empty_store_covers_nothing(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        store = make()
        seen = store.render(frames[0].camera[None])
        assert len(store) == 0
        assert not seen.mask.any()
        assert (seen.surfel_ids == -1).all()
        assert (seen.depth == 0).all()
        assert len(store.surfels()) == 0

    def test_renders_what_it_fused(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        store = make()
        for frame in frames:
            store.fuse(frame)
        seen = store.render(Camera.stack([f.camera for f in frames]))
        for t, frame in enumerate(frames):
            assert frame.depth is not None
            mask = seen.mask[t]
            assert mask.float().mean() > 0.95
            off = (seen.depth[t] - frame.depth).abs()[mask] / frame.depth[mask]
            assert off.median() < 0.005
            assert (seen.rgb[t] - frame.rgb_float()).abs()[mask].mean() < 0.05

    def test_shapes_and_ranges(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        store = make()
        ids = store.fuse(frames[0])
        assert ids.shape == (HEIGHT, WIDTH)
        seen = store.render(Camera.stack([f.camera for f in frames]))
        shape = (len(frames), HEIGHT, WIDTH)
        assert seen.rgb.shape == seen.normal.shape == (*shape, 3)
        assert seen.depth.shape == seen.mask.shape == seen.surfel_ids.shape == shape
        assert bool(((seen.rgb >= 0) & (seen.rgb <= 1)).all())
        assert bool((seen.surfel_ids[seen.mask] >= 0).all())
        assert bool((seen.depth[seen.mask] > 0).all())
        lengths = seen.normal[seen.mask].norm(dim=-1)
        assert torch.allclose(lengths, torch.ones_like(lengths), atol=1e-4)

    def test_normals_face_the_camera_and_the_surface(
        self, make: Callable[[], GeometryStore], room: BoxRoom, frames: list[Frame]
    ) -> None:
        store = make()
        store.fuse(frames[0])
        cameras = frames[0].camera[None]
        seen, truth = store.render(cameras), room.render(cameras)
        toward = -(seen.normal * cameras.rays()).sum(-1)
        assert (toward[seen.mask] > 0).float().mean() > 0.99
        assert (seen.normal * truth.normal).sum(-1)[seen.mask].median() > 0.98

    def test_fused_pixels_name_the_surfels_that_render_there(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        store = make()
        ids = store.fuse(frames[0])
        names = set(store.surfels().ids.tolist())
        used = set(ids[ids >= 0].tolist())
        assert used <= names
        seen = store.render(frames[0].camera[None])
        shown = set(seen.surfel_ids[seen.mask].tolist())
        assert len(shown & used) > 0.95 * len(shown)

    def test_a_revisit_adds_little(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        store = make()
        for frame in frames:
            store.fuse(frame)
        before = len(store)
        for frame in frames:
            store.fuse(frame)
        assert len(store) < 1.02 * before

    def test_does_not_invent(self, make: Callable[[], GeometryStore], frames: list[Frame]) -> None:
        """Half a frame without depth stays unknown."""
        store = make()
        frame = frames[0]
        assert frame.depth is not None
        depth = frame.depth.clone()
        depth[:, WIDTH // 2 :] = 0
        ids = store.fuse(frame.replace(depth=depth))
        assert (ids[:, WIDTH // 2 :] == -1).all()
        seen = store.render(frame.camera[None])
        assert not seen.mask[0, :, WIDTH // 2 + 4 :].any()

    def test_no_depth_is_an_error(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        with pytest.raises(FrameError, match="depth"):
            make().fuse(frames[0].replace(depth=None))

    def test_a_frame_of_holes_changes_nothing(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        store = make()
        assert frames[0].depth is not None
        empty = frames[0].replace(depth=torch.zeros_like(frames[0].depth))
        assert (store.fuse(empty) == -1).all()
        assert len(store) == 0

    def test_observers(self, make: Callable[[], GeometryStore], frames: list[Frame]) -> None:
        store = make()
        a, b = store.fuse(frames[0]), store.fuse(frames[1])
        store.observe(3, a.reshape(-1))
        store.observe(8, b.reshape(-1))
        ids = torch.unique(torch.cat([a.reshape(-1), b.reshape(-1)]))
        ids = ids[ids >= 0]
        assert store.observed(a)[a >= 0].all()
        assert not store.observed(a)[a < 0].any()
        offsets, keyframes = store.observers(ids)
        assert len(offsets) == len(ids) + 1
        for want, pixels in ((3, a), (8, b)):
            saw = torch.isin(ids, pixels)
            listed = torch.zeros(len(ids), dtype=torch.bool)
            row = torch.repeat_interleave(torch.arange(len(ids)), offsets.diff())
            listed[row[keyframes == want]] = True
            assert torch.equal(saw, listed)

    def test_nobody_observed_what_was_never_named(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        store = make()
        ids = torch.unique(store.fuse(frames[0]))
        assert not store.observed(ids).any()
        offsets, keyframes = store.observers(ids[ids >= 0])
        assert len(keyframes) == 0
        assert (offsets == 0).all()

    def test_unfusing_all_leaves_nothing(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        store = make()
        for id, frame in enumerate(frames):
            store.observe(id, store.fuse(frame).reshape(-1))
        ids = store.surfels().ids
        assert torch.equal(store.ids(), ids)
        store.unfuse(range(len(frames)), frames.__getitem__)
        assert len(store) == 0
        assert not store.render(frames[0].camera[None]).mask.any()
        assert not store.observed(ids).any()

    def test_unfusing_leaves_what_others_saw(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        """A frame 2 cm off, fused and taken back: what is left is as if it had never been there."""
        store, without = make(), make()
        for id, frame in enumerate(frames):
            wrong = id == 3
            c2w = frame.camera.c2w.clone()
            c2w[:3, 3] += torch.tensor([0.02, 0.0, -0.01]) * wrong
            frames[id] = frame.moved(c2w)
            ids = store.fuse(frames[id])
            store.observe(id, ids.reshape(-1))
            if not wrong:
                without.observe(id, without.fuse(frame).reshape(-1))
        cameras = Camera.stack([f.camera for i, f in enumerate(frames) if i != 3])
        other = store.surfels().ids
        store.unfuse([3, 99], frames.__getitem__)  # 99 was never observed: nothing to take back
        assert 3 not in store.observers(other)[1].tolist()
        assert len(store) <= 1.1 * len(without)
        a, b = store.render(cameras), without.render(cameras)
        both = a.mask & b.mask
        assert both.float().mean() > b.mask.float().mean() - 0.01
        off = ((a.depth - b.depth).abs() / b.depth)[both]
        assert off.mean() < 0.003
        assert off.median() < 0.002

    def test_a_frame_that_was_unfused_can_be_fused_elsewhere(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        store, right = make(), make()
        for id, frame in enumerate(frames):
            c2w = frame.camera.c2w.clone()
            c2w[:3, 3] += torch.tensor([0.02, 0.0, -0.01]) * (id == 2)
            store.observe(id, store.fuse(frame.moved(c2w)).reshape(-1))
            right.observe(id, right.fuse(frame).reshape(-1))
        was = frames[2].camera.c2w.clone()
        was[:3, 3] += torch.tensor([0.02, 0.0, -0.01])
        store.unfuse([2], lambda id: frames[id].moved(was))
        ids = store.fuse(frames[2])
        store.observe(2, ids.reshape(-1))
        ids = torch.unique(ids[ids >= 0])
        offsets, keyframes = store.observers(ids)
        for i in range(len(ids)):
            listed = keyframes[offsets[i] : offsets[i + 1]].tolist()
            assert 2 in listed
            assert listed == sorted(set(listed))
        cameras = Camera.stack([f.camera for f in frames])
        a, b = store.render(cameras), right.render(cameras)
        both = a.mask & b.mask
        assert both.float().mean() > 0.98
        off = ((a.depth - b.depth).abs() / b.depth)[both]
        assert off.mean() < 0.003

    def test_unfusing_what_cannot_be_read_changes_nothing(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        store = make()
        for id, frame in enumerate(frames[:3]):
            store.observe(id, store.fuse(frame).reshape(-1))
        before = {name: np.array(array) for name, array in store.arrays().items()}

        def read(id: int) -> Frame:
            if id == 2:
                raise OSError("the disk is gone")
            return frames[id]

        try:
            store.unfuse([0, 1, 2], read)
        except OSError:  # a store that remembers what each keyframe gave need not read
            after = store.arrays()
            assert all(np.array_equal(array, after[name]) for name, array in before.items())

    def test_remove_takes_surfels_away_and_keeps_other_ids(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        store = make()
        store.fuse(frames[0])
        before = store.surfels()
        gone = before.ids[::2]
        store.remove(gone)
        after = store.surfels()
        assert len(store) == len(before) - len(gone)
        assert torch.equal(after.ids, before.ids[1::2])
        assert torch.equal(after.position, before.position[1::2])

    def test_edit_shows(self, make: Callable[[], GeometryStore], frames: list[Frame]) -> None:
        store = make()
        store.fuse(frames[0])
        ids = store.surfels().ids
        store.edit(ids, colour=torch.tensor([1.0, 0.0, 0.5]).expand(len(ids), 3))
        seen = store.render(frames[0].camera[None])
        expected = torch.tensor([1.0, 0.0, 0.5]).expand_as(seen.rgb[seen.mask])
        assert torch.allclose(seen.rgb[seen.mask], expected, atol=1e-4)

    def test_bad_edits_are_errors(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        store = make()
        store.fuse(frames[0])
        ids = store.surfels().ids[:4]
        with pytest.raises(InputError):
            store.edit(ids, flavour=torch.zeros(4))
        with pytest.raises(InputError):
            store.edit(ids, colour=torch.zeros(3, 3))
        with pytest.raises(InputError):
            store.remove(torch.tensor([10**9]))

    def test_a_checkpoint_gives_back_the_same_store(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        store, other = make(), make()
        for frame in frames[:4]:
            store.observe(int(frame.time or 0), store.fuse(frame).reshape(-1))
        arrays = {name: np.array(array) for name, array in store.arrays().items()}
        other.restore(arrays, torch.device("cpu"))
        for frame in frames[4:]:  # and goes on as the first one would
            assert torch.equal(store.fuse(frame), other.fuse(frame))
        cameras = Camera.stack([f.camera for f in frames])
        a, b = store.render(cameras), other.render(cameras)
        assert torch.equal(a.surfel_ids, b.surfel_ids)
        assert torch.equal(a.depth, b.depth)
        assert torch.equal(a.rgb, b.rgb)
        ids = store.surfels().ids
        for mine, theirs in zip(store.observers(ids), other.observers(ids), strict=True):
            assert torch.equal(mine, theirs)

    def test_scale_does_not_matter(
        self, make: Callable[[], GeometryStore], frames: list[Frame]
    ) -> None:
        """A world in millimetres fuses as one in metres: nothing in a store knows metres."""
        metres, millimetres = make(), make()
        for frame in frames[:3]:
            assert frame.depth is not None
            camera = frame.camera
            c2w = camera.c2w.clone()
            c2w[:3, 3] *= 1000
            large = Camera(camera.K, c2w, width=camera.width, height=camera.height)
            metres.fuse(frame)
            millimetres.fuse(frame.replace(depth=frame.depth * 1000, camera=large))
        assert abs(len(metres) - len(millimetres)) <= 0.02 * len(metres)
