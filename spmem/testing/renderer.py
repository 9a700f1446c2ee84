"""Conformance of renderers: subclass, give the fixture, and pytest proves the renderer.

Needs pytest. Example::

    class TestMyRenderer(RendererTests):
        @pytest.fixture
        def make(self):
            return MyRenderer
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import InputError
from spmem.protocols import Renderer
from spmem.testing.box import BoxRoom
from spmem.types import Projection, Surfels

Make = Callable[[], Renderer]
RED, BLUE = (1.0, 0.1, 0.1), (0.1, 0.1, 1.0)
FOCAL = 40.0


class RendererTests:
    """What every :class:`spmem.protocols.Renderer` does, on patches of surfels and in an analytic room.

    Written so that a renderer of points or Gaussians passes as one of discs does: a covered region may be soft by
    ``rim`` pixels. The room is known by one disc for every 2x2 pixels, 864 in all.
    """

    width: int = 48
    height: int = 36
    device: str = "cpu"
    depth_error: float = 0.01
    """Largest median error of the room's depth, as a share of it."""
    rim: float = 2.0
    """Pixels by which a patch may be drawn too large or too small."""

    @pytest.fixture
    def make(self) -> Make:
        """Override: makes a renderer."""
        raise AssertionError("subclasses give the fixture `make`: a callable that makes a renderer")

    @pytest.fixture
    def ahead(self) -> Camera:
        """One camera in the origin that looks along +z."""
        K = torch.tensor([[FOCAL, 0, 22.0], [0, FOCAL, 19.0], [0, 0, 1]])
        one = Camera(K, torch.eye(4), width=self.width, height=self.height)
        return one[None].to(self.device)

    @pytest.fixture
    def patch(self, ahead: Camera) -> Surfels:
        """A red patch of pixels 20..41 by 6..19, at depth 2, facing the camera."""
        return self.facing(ahead, (20, 6, 41, 19), 2.0, RED)

    @pytest.fixture
    def cameras(self) -> Camera:
        """Three views of the room."""
        walk = BoxRoom().walk(3, width=self.width, height=self.height, sweep=0.3)
        return walk.to(self.device)

    @pytest.fixture
    def seen(self, make: Make, cameras: Camera) -> Projection:
        """The room as the renderer draws it."""
        return make()(self.room(cameras), cameras)

    def facing(
        self, ahead: Camera, box: tuple[int, int, int, int], depth: float, colour: tuple[float, ...]
    ) -> Surfels:
        """Surfels for every pixel of x0 y0 x1 y1 (exclusive), at a depth, facing the camera."""
        x0, y0, x1, y1 = box
        points = ahead.unproject(torch.full((1, self.height, self.width), depth).to(self.device))
        position = points[0, y0:y1, x0:x1].reshape(-1, 3)
        normal = torch.tensor([0.0, 0, -1], device=self.device).expand_as(position)
        radius = torch.full((len(position),), 0.9 * depth / FOCAL, device=self.device)
        return _make_surfels(
            position, normal, radius, position.new_tensor(colour).expand_as(position)
        )

    def room(self, cameras: Camera) -> Surfels:
        """What the first and last camera see of the room, as a disc for every 2x2 pixels."""
        from_ = cameras[[0, -1]].resize(self.width // 2, self.height // 2)
        truth = BoxRoom().render(from_)
        rays = torch.nn.functional.normalize(from_.rays(), dim=-1)
        slant = -(rays * truth.normal).sum(-1).clamp(max=-0.25)
        radius = truth.depth / from_.K[0, 0, 0] / slant
        fields = (truth.points, truth.normal, radius[..., None], truth.rgb)
        position, normal, radius, colour = (f.reshape(-1, f.shape[-1]) for f in fields)
        return _make_surfels(position, normal, radius[:, 0], colour)

    def test_is_a_renderer(self, make: Make) -> None:
        assert isinstance(make(), Renderer)

    def test_shapes_and_ranges(self, seen: Projection) -> None:
        shape = (3, self.height, self.width)
        assert seen.rgb.shape == seen.normal.shape == (*shape, 3)
        assert seen.depth.shape == seen.mask.shape == seen.surfel_ids.shape == shape
        assert seen.rgb.dtype == seen.depth.dtype == seen.normal.dtype == torch.float32
        assert (seen.mask.dtype, seen.surfel_ids.dtype) == (torch.bool, torch.int64)
        assert seen.depth.device == seen.cameras.device
        assert seen.features is None
        assert bool(((seen.rgb >= 0) & (seen.rgb <= 1 + 1e-5)).all())
        assert bool((seen.depth >= 0).all())
        assert bool((seen.depth[seen.mask] > 0).all())

    def test_no_surfels_render_nothing(self, make: Make, ahead: Camera, patch: Surfels) -> None:
        seen = make()(_take_rows(patch, torch.zeros(len(patch), dtype=torch.bool)), ahead)
        assert seen.depth.shape == (1, self.height, self.width)
        assert seen.depth.device == ahead.device
        assert not seen.mask.any()
        assert not seen.depth.any()
        assert (seen.surfel_ids == -1).all()

    def test_a_patch_is_at_its_place_and_depth(
        self, make: Make, ahead: Camera, patch: Surfels
    ) -> None:
        seen = make()(patch, ahead)
        x, y = self.centres()
        off = torch.maximum((x - 30.5).abs() - 10.5, (y - 12.5).abs() - 6.5)  # pixels to the border
        mask = seen.mask[0]
        assert mask[off < -self.rim].all()
        assert not mask[off > self.rim].any()
        assert abs(float(x[mask].mean()) - 30.5) < 0.2  # half a pixel off would show
        assert abs(float(y[mask].mean()) - 12.5) < 0.2
        assert ((seen.depth[0] / 2 - 1).abs()[mask] < 1e-3).all()
        assert (seen.rgb[0] - seen.rgb.new_tensor(RED)).abs()[mask].max() < 0.01

    def test_near_hides_far(self, make: Make, ahead: Camera, patch: Surfels) -> None:
        far = self.facing(ahead, (4, 2, 46, 34), 3.0, BLUE)
        both = _join_surfels(patch, far)
        seen = make()(both, ahead)
        x, y = self.centres()
        off = torch.maximum((x - 30.5).abs() - 10.5, (y - 12.5).abs() - 6.5)
        inside, outside = off < -self.rim, (off > self.rim) & seen.mask[0]
        assert outside.sum() > 300
        assert ((seen.depth[0] / 2 - 1).abs()[inside] < 0.01).all()
        assert ((seen.depth[0] / 3 - 1).abs()[outside] < 0.01).all()
        assert torch.isin(seen.surfel_ids[0][inside], both.ids[: len(patch)]).all()
        assert (seen.rgb[0] - seen.rgb.new_tensor(RED)).abs()[inside].max() < 0.1

    def test_what_is_behind_the_camera_is_not_drawn(
        self, make: Make, ahead: Camera, patch: Surfels
    ) -> None:
        behind = replace(patch, position=-patch.position, normal=-patch.normal)
        assert not make()(behind, ahead).mask.any()

    def test_a_back_hides_and_is_not_covered(
        self, make: Make, ahead: Camera, patch: Surfels
    ) -> None:
        back = replace(patch, normal=-patch.normal)
        seen = make()(_join_surfels(back, self.facing(ahead, (4, 2, 46, 34), 3.0, BLUE)), ahead)
        x, y = self.centres()
        inside = torch.maximum((x - 30.5).abs() - 10.5, (y - 12.5).abs() - 6.5) < -self.rim
        assert not seen.mask[0][inside].any()
        assert (seen.surfel_ids[0][inside] == -1).all()

    def test_ids_name_surfels_that_are_there(self, seen: Projection, cameras: Camera) -> None:
        surfels = self.room(cameras)
        named = seen.surfel_ids[seen.mask]
        assert torch.isin(named, surfels.ids).all()
        assert (seen.surfel_ids[~seen.mask] == -1).all()
        row = torch.searchsorted(surfels.ids, named)
        away = (seen.points[seen.mask] - surfels.position[row]).norm(dim=-1)
        assert (away <= 2 * surfels.radius[row]).float().mean() > 0.95

    def test_several_cameras_are_as_one_at_a_time(
        self, make: Make, seen: Projection, cameras: Camera
    ) -> None:
        for t in range(len(cameras)):
            alone = make()(self.room(cameras), cameras[t : t + 1])
            assert (alone.mask[0] == seen.mask[t]).float().mean() > 0.99
            both = alone.mask[0] & seen.mask[t]
            assert (alone.depth[0] / seen.depth[t] - 1).abs()[both].median() < 1e-4

    def test_normals_are_unit_and_face_the_camera(self, seen: Projection, cameras: Camera) -> None:
        normal = seen.normal[seen.mask]
        assert (normal.norm(dim=-1) - 1).abs().max() < 1e-3
        assert ((normal * cameras.rays()[seen.mask]).sum(-1) < 0).float().mean() > 0.98
        truth = BoxRoom().render(cameras)
        assert (normal * truth.normal[seen.mask]).sum(-1).median() > 0.98

    def test_the_room_is_as_deep_as_it_is(self, seen: Projection, cameras: Camera) -> None:
        truth = BoxRoom().render(cameras)
        assert seen.coverage.min() > 0.9
        off = (seen.depth / truth.depth - 1).abs()[seen.mask]
        assert off.median() < self.depth_error
        assert (seen.rgb - truth.rgb).abs()[seen.mask].mean() < 0.06

    def test_scale_does_not_matter(self, make: Make, seen: Projection, cameras: Camera) -> None:
        """A world in other units looks the same: nothing in a renderer knows metres."""
        surfels = self.room(cameras)
        for scale in (1e-3, 1e3):
            c2w = cameras.c2w.clone()
            c2w[:, :3, 3] *= scale
            there = Camera(cameras.K, c2w, width=self.width, height=self.height)
            grown = replace(
                surfels, position=surfels.position * scale, radius=surfels.radius * scale
            )
            other = make()(grown, there)
            assert (other.mask == seen.mask).float().mean() > 0.99
            both = other.mask & seen.mask
            assert (other.depth / scale / seen.depth - 1).abs()[both].median() < 1e-3

    def test_features_are_the_surfels(self, make: Make, ahead: Camera, patch: Surfels) -> None:
        features = patch.position.new_tensor([0.5, -2.0]).expand(len(patch), 2)
        seen = make()(replace(patch, features=features), ahead)
        assert seen.features is not None
        assert seen.features.shape == (1, self.height, self.width, 2)
        assert torch.allclose(seen.features[seen.mask], features[:1], atol=1e-3)

    def test_a_single_camera_is_an_error(self, make: Make, ahead: Camera, patch: Surfels) -> None:
        with pytest.raises(InputError, match="trajectory"):
            make()(patch, ahead[0])

    def centres(self) -> tuple[Tensor, Tensor]:
        """Coordinates x and y of the pixel centres."""
        x = torch.arange(self.width, device=self.device) + 0.5
        y = torch.arange(self.height, device=self.device) + 0.5
        across, down = torch.meshgrid(x, y, indexing="xy")
        return across, down


def _make_surfels(position: Tensor, normal: Tensor, radius: Tensor, colour: Tensor) -> Surfels:
    """Surfels of confidence 1, with ids that are neither dense nor small."""
    ones = torch.ones_like(radius)
    ids = torch.arange(len(ones), device=ones.device) * 7 + 2**40
    return Surfels(ids, position, normal.clone(), radius, colour.clone(), ones, 0 * ones, 0 * ones)


def _take_rows(surfels: Surfels, rows: Tensor) -> Surfels:
    fields = {name: f[rows] for name, f in vars(surfels).items() if f is not None}
    return Surfels(**fields)


def _join_surfels(first: Surfels, second: Surfels) -> Surfels:
    a, b = vars(first), vars(second)
    fields = {name: torch.cat([a[name], b[name]]) for name in a if a[name] is not None}
    last = first.ids[-1] + 7
    return Surfels(**fields | {"ids": torch.cat([first.ids, second.ids - second.ids[0] + last])})
