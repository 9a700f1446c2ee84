"""The surfel map: fusion that averages, carves and refines; the point cloud that does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from spmem import Camera, Frame
from spmem.config import FusionConfig
from spmem.errors import DeviceError, FrameError, InputError
from spmem.kernels import raster
from spmem.kernels.columns import Columns
from spmem.stores.maps.points import PointCloud
from spmem.stores.maps.surfels import SurfelMap
from spmem.testing.box import BoxRoom
from spmem.testing.geometry_store import GeometryStoreTests

WALL = 2.0


class TestSurfelMap(GeometryStoreTests):
    @pytest.fixture
    def make(self) -> Callable[[], SurfelMap]:
        return SurfelMap


class TestSurfelMapInPlainTorch(GeometryStoreTests):
    @pytest.fixture
    def make(self) -> Callable[[], SurfelMap]:
        return lambda: SurfelMap(kernel="torch")


class TestPointCloud(GeometryStoreTests):
    @pytest.fixture
    def make(self) -> Callable[[], PointCloud]:
        return PointCloud


def wall_frame(depth: torch.Tensor | float, *, x: float = 0.0, rgb: float = 0.5) -> Frame:
    """A camera at (x, 0, 0) that looks along z at a wall."""
    camera = Camera.look_at([x, 0.0, 0.0], [x, 0.0, 1.0], width=64, height=48)
    z = torch.full((48, 64), depth) if isinstance(depth, float) else depth
    return Frame(torch.full((48, 64, 3), rgb), z, camera)


def off_wall(store: SurfelMap) -> torch.Tensor:
    return (store.surfels().position[:, 2] - WALL).abs()


def noisy(seed: int, share: float = 0.01) -> torch.Tensor:
    noise = torch.randn(48, 64, generator=torch.Generator().manual_seed(seed))
    return WALL * (1 + share * noise.clamp(-2.5, 2.5))


def test_averaging_beats_a_single_look_as_a_tsdf_would() -> None:
    """The mean error of n independent looks falls about as 1 / sqrt(n); the point cloud's stays."""
    surfels, points = SurfelMap(FusionConfig(merge=0.06)), PointCloud(FusionConfig(merge=0.06))
    surfels.fuse(wall_frame(noisy(0)))
    first = off_wall(surfels).mean()
    for seed in range(16):
        surfels.fuse(wall_frame(noisy(seed)))
        points.fuse(wall_frame(noisy(seed)))
    assert off_wall(surfels).mean() < 0.45 * first
    assert off_wall(points).mean() > 0.8 * first
    assert off_wall(surfels).mean() < 0.6 * off_wall(points).mean()


def test_no_second_layer_where_a_revisit_is_off_by_a_little() -> None:
    store = SurfelMap()
    store.fuse(wall_frame(WALL))
    n = len(store)
    for off in (0.005, -0.01, 0.015, -0.015):
        store.fuse(wall_frame(WALL * (1 + off)))
    assert len(store) <= 1.02 * n
    assert off_wall(store).max() < 0.01 * WALL


def test_no_surfel_flies_between_foreground_and_background() -> None:
    """Depth images mix the two at an edge; neither the mixed pixels nor a bridge of discs get in."""
    depth = torch.full((48, 64), 3.0)
    depth[12:36, 20:44] = 1.0
    for ring, mixed in ((19, 1.5), (44, 2.2)):  # the flying pixels of a time-of-flight edge
        depth[12:36, ring] = mixed
    store = SurfelMap()
    store.fuse(wall_frame(depth))
    z = store.surfels().position[:, 2]
    assert bool((((z - 1).abs() < 0.02) | ((z - 3).abs() < 0.06)).all())


def test_grazing_pixels_stay_out() -> None:
    camera = Camera.look_at([0.0, 0, 0], [0.0, 0, 1], width=64, height=48)
    rays = camera.rays()
    slanted = 0.4 / (rays[..., 0] + 0.1 * rays[..., 1].abs() + 0.02).clamp(min=1e-6)
    depth = torch.where((slanted > 0.3) & (slanted < 8), slanted, torch.zeros(()))
    strict, loose = (SurfelMap(FusionConfig(grazing=g)) for g in (0.6, 0.0))
    frame = Frame(torch.zeros(48, 64, 3), depth, camera)
    strict.fuse(frame)
    loose.fuse(frame)
    assert len(strict) < 0.8 * len(loose)


def test_what_rays_pass_through_goes() -> None:
    store = SurfelMap()
    box = torch.full((48, 64), 3.0)
    box[16:32, 24:40] = 1.5
    for _ in range(3):
        store.fuse(wall_frame(box))
    assert (store.surfels().position[:, 2] < 2).any()
    for _ in range(4):
        store.fuse(wall_frame(3.0))
    assert not (store.surfels().position[:, 2] < 2).any()
    seen = store.render(wall_frame(3.0).camera[None])
    assert seen.mask.float().mean() > 0.98
    assert (seen.depth[seen.mask] - 3).abs().max() < 0.1


def test_what_comes_into_view_is_in_front() -> None:
    store = SurfelMap()
    for _ in range(3):
        store.fuse(wall_frame(3.0))
    box = torch.full((48, 64), 3.0)
    box[16:32, 24:40] = 1.5
    ids = store.fuse(wall_frame(box))
    assert len(torch.unique(ids[18:30, 26:38])) > 10
    depth = store.render(wall_frame(box).camera[None]).depth[0, 18:30, 26:38]
    assert (depth - 1.5).abs().max() < 0.1


def test_a_closer_look_makes_finer_surfels() -> None:
    store = SurfelMap(FusionConfig(voxel=0.002))
    store.fuse(wall_frame(4.0))
    coarse = store.surfels().radius.median()
    near = Camera.look_at([0.0, 0, 3.0], [0.0, 0, 4.0], width=64, height=48)
    store.fuse(Frame(torch.full((48, 64, 3), 0.5), torch.full((48, 64), 1.0), near))
    seen = store.render(near[None])
    radius = torch.zeros(int(seen.surfel_ids.max()) + 1)
    surfels = store.surfels()
    radius[surfels.ids[surfels.ids < len(radius)]] = surfels.radius[surfels.ids < len(radius)]
    assert radius[seen.surfel_ids[seen.mask]].median() < 0.5 * coarse


def test_the_back_of_a_wall_hides_and_is_not_known() -> None:
    store = SurfelMap()
    store.fuse(wall_frame(2.0))
    behind = Camera.look_at([0.0, 0, 4.0], [0.0, 0, 0.0], width=64, height=48)
    seen = store.render(behind[None])
    middle = (0, slice(12, 36), slice(16, 48))
    assert not seen.mask[middle].any()
    assert (seen.depth[middle] > 0).all()


def test_confidence_of_zero_leaves_a_pixel_out() -> None:
    frame = wall_frame(2.0)
    confidence = torch.ones(48, 64)
    confidence[:, :32] = 0
    ids = SurfelMap().fuse(frame.replace(confidence=confidence))
    assert (ids[:, :32] == -1).all()
    assert (ids[4:-4, 36:-4] >= 0).all()


def test_features_travel_with_the_surfels() -> None:
    features = torch.zeros(48, 64, 5)
    features[:, :32, 1], features[:, 32:, 4] = 1, 1
    store = SurfelMap()
    store.fuse(wall_frame(2.0).replace(features=features))
    seen = store.render(wall_frame(2.0).camera[None])
    assert seen.features is not None
    assert seen.features.shape == (1, 48, 64, 5)
    assert (seen.features[0, :, :28, 1] > 0.9).float().mean() > 0.95
    assert (seen.features[0, :, 36:, 4] > 0.9).float().mean() > 0.95
    with pytest.raises(FrameError, match="channels"):
        store.fuse(wall_frame(2.0).replace(features=features[..., :3]))


def test_seen_times() -> None:
    store = SurfelMap()
    store.fuse(wall_frame(2.0).replace(time=5.0))
    store.fuse(wall_frame(2.0).replace(time=9.0))
    surfels = store.surfels()
    assert surfels.first_seen.unique().tolist() == [5.0]
    assert surfels.last_seen.max() == 9.0


@pytest.mark.parametrize("voxel", [None, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_fast_and_plain_fusion_agree(seed: int, voxel: float | None) -> None:
    """Pixel by pixel, and in blocks of 2 and 4 pixels; with holes, noise, bytes for colour, odd sizes."""
    room, (height, width) = BoxRoom(), (61, 83)
    frames = room.frames(room.walk(5, width=width, height=height, sweep=1.0 + seed))
    generator = torch.Generator().manual_seed(seed)
    config = FusionConfig(voxel=voxel)
    fast, plain = SurfelMap(config, kernel="numba"), SurfelMap(config, kernel="torch")
    for frame in frames:
        assert frame.depth is not None
        noise = torch.randn(height, width, generator=generator)
        depth = frame.depth * (1 + 0.004 * noise)
        depth[torch.rand(height, width, generator=generator) < 0.05] = 0
        frame = frame.replace(
            depth=depth,
            rgb=(frame.rgb_float() * 255).round().byte() if seed else frame.rgb,
            confidence=noise.abs().clamp(max=1) if seed == 2 else None,
        )
        assert (fast.fuse(frame) == plain.fuse(frame)).float().mean() > 0.98
    assert abs(len(fast) - len(plain)) <= 0.005 * len(plain)
    cameras = Camera.stack([f.camera for f in frames])
    a, b = fast.render(cameras), plain.render(cameras)
    both = a.mask & b.mask
    assert (a.mask == b.mask).float().mean() > 0.998
    assert (a.depth - b.depth).abs()[both].quantile(0.99) < 0.01


def discs(n: int, seed: int) -> Columns:
    g = torch.Generator().manual_seed(seed)
    columns = Columns(torch.device("cpu"))
    normal = torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=-1)
    columns.append(
        {
            "position": torch.randn(n, 3, generator=g) * 2,
            "normal": normal,
            "radius": 0.02 + 0.2 * torch.rand(n, generator=g) ** 3,
            "colour": torch.rand(n, 3, generator=g),
            "confidence": 64 * torch.rand(n, generator=g) ** 4,  # of every level
        }
    )
    return columns


@pytest.mark.parametrize("seed", range(4))
def test_fast_and_plain_rendering_agree(seed: int) -> None:
    camera = Camera.look_at([0.1, 0.2, -3.0], [0, 0, 0], width=97, height=61)
    columns = discs(3000, seed)
    fast, plain = (raster.rasterize(columns, camera[None], kernel=k) for k in ("numba", "torch"))
    assert (fast[4] == plain[4]).float().mean() > 0.999
    same = fast[4] == plain[4]
    for a, b in zip(fast[:3], plain[:3], strict=True):
        assert torch.allclose(a[same], b[same], atol=2e-3)


def drawn(
    discs: list[tuple[float, float, float, float]], kernel: str, away: int = -1
) -> tuple[int, float]:
    """The row and the depth that the middle of a picture shows; a disc is (x, z, radius, confidence), ``away`` faces away."""
    camera = Camera.look_at([0, 0, 0], [0, 0, 1], width=97, height=97)
    columns, normal = Columns(torch.device("cpu")), torch.tensor([[0, 0, -1.0]])
    normal = normal.repeat(len(discs), 1)
    normal[[row == away for row in range(len(discs))]] *= -1
    x, z, radius, confidence = torch.tensor(discs, dtype=torch.float32).T
    rows = {
        "position": torch.stack([x, 0 * x, z], -1),
        "normal": normal,
        "radius": radius.contiguous(),
        "colour": torch.full((len(discs), 3), 0.5),
        "confidence": confidence.contiguous(),
    }
    columns.append(rows)
    _, depth, _, _, seen = raster.rasterize(columns, camera[None], kernel=kernel)
    return int(seen[0, 48, 48]), float(depth[0, 48, 48])


@pytest.mark.parametrize("kernel", ["numba", "torch"])
@pytest.mark.parametrize("confidence", [0.5, 2, 8])
def test_a_wall_seen_seldom_hides_what_was_seen_often(confidence: float, kernel: str) -> None:
    assert drawn([(0, 1, 5, confidence), (0, 2, 5, 64)], kernel) == (0, pytest.approx(1))


@pytest.mark.parametrize("kernel", ["numba", "torch"])
@pytest.mark.parametrize(
    ("confidence", "depth", "shown"),
    [(0.5, 1.02, 1), (0.5, 1.1, 0), (4, 1.02, 0)],
)
def test_of_two_hits_of_one_surface_the_far_surer_counts(
    confidence: float, depth: float, shown: int, kernel: str
) -> None:
    """4 and 20 are one level apart: whoever is nearer counts."""
    assert drawn([(0, 1, 5, confidence), (0, depth, 5, 20)], kernel)[0] == shown


@pytest.mark.parametrize("kernel", ["numba", "torch"])
@pytest.mark.parametrize(
    ("edge", "beside", "shown"),
    [
        (
            0.01,
            64,
            2,
        ),  # the surface ends just beside the pixel, and a wrong pose moved a part of it
        (0.05, 64, 0),  # it ends farther off than poses err
        (0.01, 0.5, 0),  # what is beside was seen as seldom
    ],
)
def test_the_rim_that_a_wrong_pose_adds_to_a_thing_does_not_hide_what_is_behind(
    edge: float, beside: float, shown: int, kernel: str
) -> None:
    rim, thing, wall = (0, 1, 5, 0.5), (-5 - edge, 1, 5, beside), (0, 2, 9, 64)
    assert drawn([rim, thing, wall], kernel)[0] == shown


@pytest.mark.parametrize("kernel", ["numba", "torch"])
@pytest.mark.parametrize(
    ("radius", "confidence", "shown"),
    [(0.03, 0.5, 1), (0.3, 0.5, 0), (0.03, 9, 0), (0.03, 2, 1)],
)
def test_a_speck_does_not_hide_what_is_far_surer(
    radius: float, confidence: float, shown: int, kernel: str
) -> None:
    assert drawn([(0, 1, radius, confidence), (0, 2, 5, 64)], kernel)[0] == shown


@pytest.mark.parametrize("kernel", ["numba", "torch"])
@pytest.mark.parametrize(
    ("confidence", "away", "shown"),
    [
        ([0.5, 64, 64], 1, 0),  # the other side of the wall that the first one is of
        ([0.5, 2, 64], 1, 0),  # and what lies behind that
        ([2, 64, 64], 0, None),  # a wall seen from the other side alone
        ([0.5, 64, 64], 0, 1),  # a speck
        ([0.5, 64, 64], 2, 1),  # behind all
    ],
)
def test_what_faces_away_is_not_looked_through_nor_what_lies_before_it(
    confidence: list[float], away: int, shown: int | None, kernel: str
) -> None:
    """Nobody saw from this side what faces away, or what lies behind it: neither tells that nothing stands before it."""
    places = [(0.0, 1.0, 0.03), (0.0, 1.2, 5.0), (0.0, 3.0, 9.0)]
    discs = [(*place, sure) for place, sure in zip(places, confidence, strict=True)]
    row, depth = drawn(discs, kernel, away)
    assert row == (-1 if shown is None else shown)
    assert depth == pytest.approx([1.0, 1.2, 3.0][shown or 0])


@pytest.mark.gpu
def test_a_map_lives_where_its_first_frame_was() -> None:
    room = BoxRoom()
    store, cameras = SurfelMap(), room.walk(4, width=80, height=60)
    for frame in room.frames(cameras):
        store.fuse(frame.to("cuda"))
    seen = store.render(cameras.to("cuda"))
    assert seen.mask.is_cuda
    assert seen.mask.float().mean() > 0.95
    with pytest.raises(DeviceError):
        store.render(cameras)


def test_a_disc_is_rendered_where_geometry_says() -> None:
    columns = Columns(torch.device("cpu"))
    columns.append(
        {
            "position": torch.tensor([[0.5, 0.0, 4.0]]),
            "normal": torch.tensor([[0.0, 0.0, -1.0]]),
            "radius": torch.tensor([1.0]),
            "colour": torch.tensor([[0.2, 0.4, 0.6]]),
            "confidence": torch.tensor([1.0]),
        }
    )
    camera = Camera([[100.0, 0, 64], [0, 100, 48], [0, 0, 1]], torch.eye(4), width=128, height=96)
    rgb, depth, normal, _, rows = (image[0] for image in raster.rasterize(columns, camera[None]))
    xy = torch.stack(torch.meshgrid(torch.arange(128.0), torch.arange(96.0), indexing="xy"), -1)
    inside = ((xy + 0.5 - torch.tensor([64 + 12.5, 48])).norm(dim=-1)) <= 25
    assert torch.equal(rows >= 0, inside)
    assert torch.allclose(depth[inside], torch.tensor(4.0))
    assert torch.allclose(rgb[inside], torch.tensor([0.2, 0.4, 0.6]).expand(int(inside.sum()), 3))
    assert torch.allclose(normal[inside][:, 2], torch.tensor(-1.0))


def test_a_disc_smaller_than_a_pixel_is_not_lost() -> None:
    columns = Columns(torch.device("cpu"))
    columns.append(
        {
            "position": torch.tensor([[0.003, 0.002, 4.0]]),
            "normal": torch.tensor([[0.0, 0.0, -1.0]]),
            "radius": torch.tensor([1e-4]),
            "colour": torch.ones(1, 3),
            "confidence": torch.ones(1),
        }
    )
    camera = Camera.look_at([0.0, 0, 0], [0.0, 0, 1], width=32, height=24)
    for kernel in ("numba", "torch"):
        rows = raster.rasterize(columns, camera[None], kernel=kernel)[4]
        assert 1 <= int((rows >= 0).sum()) <= 2


def test_a_render_needs_a_trajectory() -> None:
    with pytest.raises(InputError, match="trajectory"):
        SurfelMap().render(wall_frame(2.0).camera)


def test_growth_keeps_ids_and_bytes_in_bounds() -> None:
    room = BoxRoom()
    store = SurfelMap()
    frames = room.frames(room.walk(6, width=96, height=72, sweep=2.0))
    first = store.fuse(frames[0])
    before = store.surfels()
    for frame in frames[1:]:
        store.fuse(frame)
    after = store.surfels()
    kept = torch.isin(before.ids, after.ids)
    moved = after.position[torch.isin(after.ids, before.ids)] - before.position[kept]
    assert moved.norm(dim=-1).median() < 0.01
    assert set(first[first >= 0].tolist()) <= set(before.ids.tolist())
    arrays = store.arrays()
    columns = sum(a.nbytes for n, a in arrays.items() if not n.startswith(("posting", "scalars")))
    assert columns / len(arrays["radius"]) <= 64


def test_a_first_frame_without_depth_and_a_voxel_of_any_size() -> None:
    for voxel in (1e-4, 0.02, 50.0):
        store = SurfelMap(FusionConfig(voxel=voxel))
        assert (store.fuse(wall_frame(0.0)) == -1).all()
        assert len(store) == 0
        store.fuse(wall_frame(WALL))
        assert len(store) > 0


def test_a_checkpoint_without_chunks_opens_as_another_device_wrote_it() -> None:
    store, other = SurfelMap(), SurfelMap()
    store.fuse(wall_frame(WALL))
    arrays = {k: v for k, v in store.arrays().items() if not k.startswith("chunk")}
    other.restore(arrays, torch.device("cpu"))
    camera = wall_frame(WALL).camera[None]
    assert torch.equal(store.render(camera).surfel_ids, other.render(camera).surfel_ids)
    assert other.fuse(wall_frame(WALL)).max() >= 0
