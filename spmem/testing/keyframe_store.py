"""Conformance of keyframe stores: subclass, give the fixtures, and pytest proves the store.

What a store can do besides the required core has classes of its own: :class:`DurableStoreTests` here,
:class:`spmem.testing.keyframe_history.VersionedStoreTests`; tests of a capability that a store lacks are skipped. Needs
pytest. Example::

    class TestMyStore(KeyframeStoreTests):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from spmem.errors import (
    FrameError,
    InputError,
    KeyframeNotFoundError,
    StoreError,
)
from spmem.protocols import BatchReadingStore, CommittingStore, KeyframeStore, RoundingStore
from spmem.testing.sample_frames import sample_frame
from spmem.testing.stored_frames import StoredFrameTests, settle


class KeyframeStoreTests(StoredFrameTests):
    """What every :class:`spmem.protocols.KeyframeStore` does. A subclass gives the fixture ``store``: an empty one."""

    def test_it_has_the_shape_of_the_protocol(self, store: KeyframeStore) -> None:
        assert isinstance(store, KeyframeStore)

    def test_a_new_store_is_empty(self, store: KeyframeStore) -> None:
        assert len(store) == len(store.ids()) == len(store.times()) == len(store.cameras()) == 0
        assert store.ids().dtype == np.int64
        assert store.times().dtype == np.float64

    def test_reading_gives_what_was_appended(self, store: KeyframeStore) -> None:
        frames = [sample_frame(number) for number in range(3)]
        ids = [store.append(frame) for frame in frames]
        for id, frame in zip(ids, frames, strict=True):
            self.check_same(store.read(id), frame)

    def test_several_are_read_as_each_is(self, store: KeyframeStore) -> None:
        if not isinstance(store, BatchReadingStore):
            pytest.skip("the store lacks the capability BatchReadingStore")
        frames = [sample_frame(n, confidence=n == 2, channels=n % 2) for n in range(5)]
        ids = [store.append(frame) for frame in frames[:3]]
        settle(store, "three")
        ids += [store.append(frame) for frame in frames[3:]]
        wanted_ids = [ids[n] for n in (4, 0, 2, 0, 3)]
        for id, frame in zip(wanted_ids, store.read_many(wanted_ids), strict=True):
            self.check_same(frame, frames[ids.index(id)])
            assert torch.equal(frame.rgb, store.read(id).rgb)
        assert store.read_many([]) == []
        with pytest.raises(KeyframeNotFoundError, match=str(ids[-1] + 1)):
            store.read_many([ids[0], ids[-1] + 1])

    def test_confidence_and_features_are_kept(self, store: KeyframeStore) -> None:
        frame = sample_frame(1, confidence=True, channels=5)
        self.check_same(store.read(store.append(frame)), frame)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    def test_latents_are_kept_bit_for_bit(self, store: KeyframeStore, dtype: torch.dtype) -> None:
        """Also in pieces of memory, of other shapes, and what is no number."""
        numbers = torch.randn(16, 6, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
        numbers[0, 0, :3] = torch.tensor([float("nan"), float("-inf"), -0.0])
        shapes = [numbers, numbers[:, ::2].mT, numbers[3, 2, 1], numbers[:0]]
        frames = [sample_frame(n).replace(latent=one) for n, one in enumerate(shapes)]
        frames.append(sample_frame(9, confidence=True, channels=2).replace(latent=numbers))
        ids = [store.append(frame) for frame in [*frames, sample_frame(5)]]
        kept = numbers.clone()
        numbers.zero_()
        frames[-1] = frames[-1].replace(latent=kept)
        self.check_same(store.read(ids[4]), frames[4])
        settle(store, "latents")
        self.check_same(store.read(ids[4]), frames[4])
        assert store.read(ids[5]).latent is None
        for id, frame in zip(ids[:4], frames, strict=False):
            latent = store.read(id).latent
            assert latent is not None
            assert frame.latent is not None
            assert (latent.dtype, latent.shape) == (dtype, frame.latent.shape)

    def test_float_colour_is_taken(self, store: KeyframeStore) -> None:
        frame = sample_frame(2)
        frame = frame.replace(rgb=frame.rgb_float())
        self.check_same(store.read(store.append(frame)), frame)

    def test_image_sizes_may_differ(self, store: KeyframeStore) -> None:
        sizes = [(64, 48), (17, 9), (8, 6), (80, 120)]
        frames = [sample_frame(n, width=w, height=h) for n, (w, h) in enumerate(sizes)]
        ids = [store.append(frame) for frame in frames]
        settle(store, "sizes")
        for id, frame in zip(ids, frames, strict=True):
            self.check_same(store.read(id), frame)
        assert [(c.width, c.height) for c in store.cameras()] == sizes

    def test_stored_depth_is_what_reading_gives(self, store: KeyframeStore) -> None:
        if not isinstance(store, RoundingStore):
            pytest.skip("the store lacks the capability RoundingStore")
        frame = sample_frame(3)
        assert frame.depth is not None
        depth = frame.depth * 1e-3
        promised = store.stored_depth(depth.numpy().copy())
        read = store.read(store.append(frame.replace(depth=depth))).depth
        assert read is not None
        assert promised.dtype == np.float32
        assert np.array_equal(promised.view(np.uint32), read.numpy().view(np.uint32))

    def test_ids_ascend_and_columns_follow_them(self, store: KeyframeStore) -> None:
        frames = [sample_frame(number) for number in range(5)]
        ids = [store.append(frame) for frame in frames[:3]]
        settle(store, "three")
        ids += [store.append(frame) for frame in frames[3:]]
        assert all(a < b for a, b in pairwise(ids))
        assert store.ids().tolist() == ids
        assert store.times().tolist() == [frame.time for frame in frames]
        cameras = store.cameras()
        assert len(cameras) == len(store) == 5
        for camera, frame in zip(cameras, frames, strict=True):
            assert torch.equal(camera.c2w, frame.camera.c2w)
            assert torch.equal(camera.K, frame.camera.K)
        assert torch.equal(cameras[-1].c2w, frames[-1].camera.c2w)
        assert [float(c.c2w[0, 3]) for c in cameras[1:3]] == [
            float(f.camera.c2w[0, 3]) for f in frames[1:3]
        ]

    def test_what_was_read_and_appended_is_nobody_elses(self, store: KeyframeStore) -> None:
        frame = sample_frame(0)
        assert frame.depth is not None
        kept = frame.replace(rgb=frame.rgb.clone(), depth=frame.depth.clone())
        id = store.append(frame)
        frame.rgb.zero_()
        frame.depth.zero_()
        store.read(id).rgb.zero_()
        self.check_same(store.read(id), kept)

    def test_an_unknown_id_is_told(self, store: KeyframeStore) -> None:
        id = store.append(sample_frame(0))
        for unknown in (id + 1, -1, 10**12):
            with pytest.raises(KeyframeNotFoundError, match=str(unknown)):
                store.read(unknown)

    def test_a_pose_can_be_corrected(self, store: KeyframeStore) -> None:
        frames = [sample_frame(number) for number in range(4)]
        ids = [store.append(frame) for frame in frames]
        settle(store, "four")
        moved = frames[1].moved(frames[3].camera.c2w)
        store.move(np.array([ids[1]]), moved.camera.c2w.numpy()[None])
        self.check_same(store.read(ids[1]), moved)
        assert torch.equal(store.cameras()[1].c2w, moved.camera.c2w)
        assert store.ids().tolist() == ids
        for id, frame in zip(ids[2:], frames[2:], strict=True):
            self.check_same(store.read(id), frame)

    def test_removed_keyframes_are_gone_and_their_ids_too(self, store: KeyframeStore) -> None:
        frames = [sample_frame(number) for number in range(6)]
        ids = [store.append(frame) for frame in frames[:3]]
        settle(store, "three")
        ids += [store.append(frame) for frame in frames[3:5]]
        gone = [ids[0], ids[4]]
        store.remove(np.array(gone))
        assert store.ids().tolist() == ids[1:4]
        assert len(store) == len(store.times()) == len(store.cameras()) == 3
        for id in gone:
            with pytest.raises(KeyframeNotFoundError):
                store.read(id)
        again = store.append(frames[5])
        assert again > ids[4]
        settle(store, "removed")
        for id, frame in zip([*ids[1:4], again], [*frames[1:4], frames[5]], strict=True):
            self.check_same(store.read(id), frame)
        store.remove(store.ids())
        settle(store, "empty")
        assert len(store) == 0

    def test_uids_survive_what_is_done_to_keyframes(self, store: KeyframeStore) -> None:
        given = bytes(range(16))
        ids = [store.append(sample_frame(0)), store.append(sample_frame(1), given)]
        ids.append(store.append(sample_frame(2)))
        before = store.uids()
        assert before[1] == given
        assert len(set(before)) == 3
        assert all(isinstance(uid, bytes) and len(uid) == 16 for uid in before)
        settle(store, "three")
        store.move(np.array(ids[1:2]), sample_frame(9).camera.c2w.numpy()[None])
        assert store.uids() == before
        store.remove(np.array(ids[:1]))
        assert store.uids() == before[1:]
        for refused in (given, b"short", "0123456789abcdef"):
            with pytest.raises(InputError):
                store.append(sample_frame(3), refused)  # type: ignore[arg-type]
        assert store.uids() == before[1:]
        frame = store.read(ids[1])
        store.remove(np.array(ids[1:2]))
        store.append(frame, given)
        settle(store, "again")
        assert store.uids() == [before[2], given]

    def test_corrections_of_unknown_keyframes_change_nothing(self, store: KeyframeStore) -> None:
        frame = sample_frame(0)
        id = store.append(frame)
        pose = sample_frame(3).camera.c2w.numpy()
        with pytest.raises(KeyframeNotFoundError, match=str(id + 7)):
            store.move(np.array([id, id + 7]), np.stack([pose, pose]))
        with pytest.raises(KeyframeNotFoundError, match=str(id + 7)):
            store.remove(np.array([id, id + 7]))
        self.check_same(store.read(id), frame)

    def test_depth_that_is_not_rounded_is_exact(self, store: KeyframeStore) -> None:
        if isinstance(store, RoundingStore):
            pytest.skip(f"a {type(store).__name__} rounds depth, and reports how")
        frame = sample_frame(3)
        read = store.read(store.append(frame)).depth
        assert read is not None
        assert frame.depth is not None
        assert torch.equal(read, frame.depth)

    def test_sizes_follow_ids(self, store: KeyframeStore) -> None:
        for number in range(3):
            store.append(sample_frame(number, width=32 * (1 + number), height=24))
        assert store.sizes().shape == (3,)
        assert (store.sizes() > 0).all()

    @pytest.mark.parametrize("missing", ["depth", "time"])
    def test_a_keyframe_has_depth_and_time(self, store: KeyframeStore, missing: str) -> None:
        with pytest.raises(FrameError, match=missing):
            store.append(sample_frame(0).replace(**{missing: None}))
        assert len(store) == 0

    def test_groups_of_arrays_come_back(self, store: KeyframeStore) -> None:
        arrays = {
            "position": np.linspace(-1, 1, 30, dtype=np.float32).reshape(10, 3),
            "ids": np.arange(10),
            "seen": np.arange(10) % 3 == 0,
            "scale": np.array(2.5),
            "none": np.zeros((0, 4), np.float16),
        }
        attributes = {"voxel": 0.25, "nested": {"names": ["a", None, True]}}
        store.write_arrays("map", arrays, attributes)
        before = store.read_arrays("map")
        settle(store, "map")
        for found in (before, store.read_arrays("map")):
            assert found is not None
            assert found[1] == attributes
            assert set(found[0]) == set(arrays)
            for name, array in arrays.items():
                assert found[0][name].dtype == array.dtype
                assert np.array_equal(found[0][name], array)
                assert found[0][name].shape == array.shape

    def test_a_group_replaces_the_one_of_its_name(self, store: KeyframeStore) -> None:
        store.write_arrays("map", {"a": np.arange(3), "b": np.arange(3)}, {"x": 1})
        store.write_arrays("index", {"a": np.arange(4)}, {})
        settle(store, "first")
        store.write_arrays("map", {"a": np.arange(5.0)}, {"y": 2})
        settle(store, "second")
        found, other = store.read_arrays("map"), store.read_arrays("index")
        assert found is not None
        assert other is not None
        assert set(found[0]) == {"a"}
        assert found[0]["a"].tolist() == [0, 1, 2, 3, 4]
        assert found[1] == {"y": 2}
        assert other[0]["a"].tolist() == [0, 1, 2, 3]
        assert store.read_arrays("nothing") is None

    def test_written_arrays_are_copies(self, store: KeyframeStore) -> None:
        array = np.arange(3)
        store.write_arrays("map", {"a": array}, {})
        array[:] = 9
        found = store.read_arrays("map")
        assert found is not None
        assert found[0]["a"].tolist() == [0, 1, 2]

    @pytest.mark.parametrize(
        ("group", "arrays", "attributes"),
        [
            ("../map", {}, {}),
            ("", {}, {}),
            ("keyframes", {}, {}),
            ("map", {"a/b": np.arange(3)}, {}),
            ("map", {"a": np.array([object()])}, {}),
            ("map", {"a": np.array(["text"])}, {}),
            ("map", {}, {"device": torch.device("cpu")}),
            ("map", {}, {"scale": float("nan")}),
        ],
    )
    def test_groups_that_cannot_be_kept_are_refused(
        self, store: KeyframeStore, group: str, arrays: Any, attributes: Any
    ) -> None:
        with pytest.raises(InputError):
            store.write_arrays(group, arrays, attributes)

    def test_a_closed_store_says_so(self, store: KeyframeStore) -> None:
        id = store.append(sample_frame(0))
        store.close()
        store.close()
        for use in (
            lambda: store.append(sample_frame(1)),
            lambda: store.read(id),
            lambda: store.write_arrays("map", {}, {}),
            lambda: store.read_arrays("map"),
        ):
            with pytest.raises(StoreError, match="closed"):
                use()
        if isinstance(store, BatchReadingStore):
            with pytest.raises(StoreError, match="closed"):
                store.read_many([id])
        if isinstance(store, CommittingStore):
            with pytest.raises(StoreError, match="closed"):
                store.commit("late")


class DurableStoreTests(StoredFrameTests):
    """What a store that outlives its process does.

    A subclass gives ``store`` and ``reopen``: a function that opens the closed memory of ``store`` again.
    """

    def test_committed_keyframes_survive(
        self, store: KeyframeStore, reopen: Callable[[], KeyframeStore]
    ) -> None:
        frames = [sample_frame(n, confidence=n > 2, channels=n % 3) for n in range(20)]
        frames[7] = frames[7].replace(latent=torch.linspace(-1, 1, 24).reshape(4, 6).bfloat16())
        ids = [store.append(frame) for frame in frames]
        before = [store.read(id) for id in ids]
        uids = store.uids()
        settle(store, "all")
        store.close()
        again = reopen()
        assert again.ids().tolist() == ids
        assert again.uids() == uids
        assert again.times().tolist() == [frame.time for frame in frames]
        for id, frame, was in zip(ids, frames, before, strict=True):
            read = again.read(id)
            self.check_same(read, frame)
            assert torch.equal(read.rgb, was.rgb)
            for name in ("depth", "confidence", "features"):
                assert (value := getattr(read, name)) is None or torch.equal(
                    value, getattr(was, name)
                )

    def test_uncommitted_work_is_dropped(
        self, store: KeyframeStore, reopen: Callable[[], KeyframeStore]
    ) -> None:
        if not isinstance(store, CommittingStore):
            pytest.skip("the store lacks the capability CommittingStore")
        kept = [store.append(sample_frame(n)) for n in range(2)]
        store.write_arrays("map", {"a": np.arange(2)}, {})
        settle(store, "kept")
        for n in range(2, 40):
            store.append(sample_frame(n))
        store.write_arrays("map", {"a": np.arange(7)}, {})
        store.close()
        again = reopen()
        assert again.ids().tolist() == kept
        found = again.read_arrays("map")
        assert found is not None
        assert found[0]["a"].tolist() == [0, 1]

    def test_appending_goes_on_after_reopening(
        self, store: KeyframeStore, reopen: Callable[[], KeyframeStore]
    ) -> None:
        ids = [store.append(sample_frame(n)) for n in range(3)]
        settle(store, "first")
        store.close()
        again = reopen()
        ids += [again.append(sample_frame(n)) for n in range(3, 6)]
        settle(again, "second")
        assert again.ids().tolist() == ids
        assert ids == sorted(set(ids))
        for n, id in enumerate(ids):
            self.check_same(again.read(id), sample_frame(n))

    def test_corrections_survive(
        self, store: KeyframeStore, reopen: Callable[[], KeyframeStore]
    ) -> None:
        """Corrections of durable keyframes, and of ones not yet durable."""
        frames = [sample_frame(n) for n in range(6)]
        ids = [store.append(frame) for frame in frames[:4]]
        settle(store, "first")
        ids += [store.append(frame) for frame in frames[4:]]
        poses = np.stack([frames[n].camera.c2w.numpy() for n in (5, 0)])
        store.move(np.array([ids[0], ids[5]]), poses)
        store.remove(np.array([ids[1], ids[4]]))
        settle(store, "corrected")
        store.close()
        again = reopen()
        assert again.ids().tolist() == [ids[n] for n in (0, 2, 3, 5)]
        self.check_same(again.read(ids[0]), frames[0].moved(poses[0]))
        self.check_same(again.read(ids[5]), frames[5].moved(poses[1]))
        for n in (2, 3):
            self.check_same(again.read(ids[n]), frames[n])
        assert again.append(frames[1]) > ids[5]

    def test_uncommitted_corrections_are_dropped(
        self, store: KeyframeStore, reopen: Callable[[], KeyframeStore]
    ) -> None:
        if not isinstance(store, CommittingStore):
            pytest.skip("the store lacks the capability CommittingStore")
        frames = [sample_frame(n) for n in range(3)]
        ids = [store.append(frame) for frame in frames]
        settle(store, "kept")
        store.move(np.array([ids[0]]), frames[2].camera.c2w.numpy()[None])
        store.remove(np.array([ids[1]]))
        store.close()
        again = reopen()
        assert again.ids().tolist() == ids
        for id, frame in zip(ids, frames, strict=True):
            self.check_same(again.read(id), frame)
