"""gsplat: Gaussians and back; the renderer on a plain torch twin of gsplat's kernel, and on CUDA itself."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import DeviceError, InputError, MissingExtraError
from spmem.geometry import matrix_from_quaternion
from spmem.integrations.renderers.gsplat import (
    GsplatRenderer,
    gaussians_from_surfels,
    surfels_from_gaussians,
)
from spmem.testing.box import BoxRoom
from spmem.testing.renderer import RendererTests
from spmem.types import Surfels

INSTALLED = importlib.util.find_spec("gsplat") is not None
needs_gsplat = pytest.mark.skipif(not INSTALLED, reason="gsplat is not installed")


def project(
    means: Tensor, quats: Tensor, scales: Tensor, viewmat: Tensor, K: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Screen centre [N, 2], depth [N], ray transform [N, 3, 3] (2DGS, equation 8) and facing normal [N, 3]."""
    turn = viewmat[:3, :3] @ matrix_from_quaternion(quats)
    centre = means @ viewmat[:3, :3].T + viewmat[:3, 3]
    M = K @ torch.cat([turn[..., :2] * scales[:, None, :2], centre[..., None]], -1)
    test = torch.tensor([1.0, 1.0, -1.0])
    f = test / (M[:, 2] ** 2 * test).sum(-1, keepdim=True)
    middle = (f[:, None] * M[:, :2] * M[:, 2:]).sum(-1)
    normal = turn[..., 2] * -(turn[..., 2] * centre).sum(-1, keepdim=True).sign()
    return middle, centre[:, 2], M, normal


def twin(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float,
) -> tuple[Any, ...]:
    """What gsplat 1.5.3's ``rasterization_2dgs`` computes, for every Gaussian and pixel (its own stops at 3.33 sigma)."""
    out = []
    for colour, viewmat, K in zip(colors, viewmats, Ks, strict=True):
        middle, depth, M, normal = project(means, quats, scales, viewmat, K)
        order = depth.argsort()
        order = order[depth[order] > near_plane]
        middle, M, normal, c, o = (
            middle[order],
            M[order],
            normal[order],
            colour[order],
            opacities[order],
        )
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        pixel = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3)
        row_x, row_y, row_w = M.unbind(1)
        crossed = [
            torch.linalg.cross(*pair) for pair in ((row_y, row_w), (row_w, row_x), (row_x, row_y))
        ]
        u, v, w = torch.einsum("pk,knc->cpn", pixel, torch.stack(crossed))
        near = torch.cdist(pixel[:, :2], middle).square()
        sigma = 0.5 * torch.minimum((u * u + v * v) / (w * w), 2 * near)
        alpha = (o * (-sigma).exp()).clamp(max=0.999)
        alpha = torch.where(alpha >= 1 / 255, alpha, 0.0)
        after = (1 - alpha).cumprod(-1)
        alpha = torch.where(after > 1e-4, alpha, 0.0)
        left = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], -1)
        weight = alpha * left
        brings = (alpha > 0) & (left > 0.5)
        count = torch.where(brings, torch.arange(1, len(o) + 1), 0)
        last = torch.cat([torch.zeros(len(pixel), 1, dtype=torch.long), count], -1).amax(-1)
        median = torch.cat([torch.zeros(1), c[:, -1]])[last]
        shape = (height, width, -1)
        out.append(
            (
                (weight @ c).reshape(shape),
                weight.sum(-1).reshape(shape),
                (weight @ normal @ viewmat[:3, :3]).reshape(shape),
                median.reshape(shape),
            )
        )
    rgb, opacity, normals, medians = (torch.stack(part) for part in zip(*out, strict=True))
    return rgb, opacity, normals, None, None, medians, {}


class TestGsplatRendererOnTheTwin(RendererTests):
    @pytest.fixture
    def make(self) -> Callable[[], GsplatRenderer]:
        return partial(GsplatRenderer, twin)


@needs_gsplat
@pytest.mark.gpu
class TestGsplatRenderer(RendererTests):
    device = "cuda"

    @pytest.fixture
    def make(self) -> Callable[[], GsplatRenderer]:
        return GsplatRenderer


def some(n: int, seed: int) -> Surfels:
    """Surfels anywhere, normals every way, the poles among them."""
    draw = torch.Generator().manual_seed(seed)
    normal = torch.randn(n, 3, generator=draw)
    normal[:2] = torch.tensor([[0.0, 0, -1], [0, 0, 1]])[:n]
    uniform = partial(torch.rand, generator=draw)
    return Surfels(
        ids=torch.arange(n) * 5 + 3,
        position=10 * uniform(n, 3) - 5,
        normal=torch.nn.functional.normalize(normal, dim=-1),
        radius=uniform(n) + 0.01,
        colour=uniform(n, 3),
        confidence=64 * uniform(n) + 0.01,
        first_seen=torch.full((n,), 2.5),
        last_seen=torch.full((n,), 2.5),
    )


@given(n=st.integers(0, 20), seed=st.integers(0, 2**16))
def test_surfels_come_back_from_gaussians(n: int, seed: int) -> None:
    surfels = some(n, seed)
    back = surfels_from_gaussians(gaussians_from_surfels(surfels), ids=surfels.ids, time=2.5)
    for name, field in vars(surfels).items():
        if field is not None:
            assert torch.allclose(getattr(back, name), field, rtol=1e-3, atol=1e-5), name


@given(seed=st.integers(0, 2**16))
def test_gaussians_come_back_from_surfels(seed: int) -> None:
    """Round ones: as the same Gaussians, whichever way they were turned about their normal."""
    gaussians = gaussians_from_surfels(some(8, seed))
    draw = torch.Generator().manual_seed(seed)
    spin = torch.rand(8, generator=draw) * 3
    w, x, y, z = gaussians["quats"].unbind(-1)
    c, s = spin.cos(), spin.sin()  # q * (c, 0, 0, s), and not of unit length
    turned = 3 * torch.stack([w * c - z * s, x * c + y * s, y * c - x * s, z * c + w * s], -1)
    back = gaussians_from_surfels(surfels_from_gaussians({**gaussians, "quats": turned}))
    for name, field in gaussians.items():
        assert isinstance(field, Tensor)
        other = back[name]  # type: ignore[literal-required]
        if name == "quats":
            field, other = (matrix_from_quaternion(q)[..., 2] for q in (field, other))
        assert torch.allclose(other, field, rtol=1e-3, atol=1e-5), name


def test_what_are_no_plain_gaussians_is_refused() -> None:
    gaussians = gaussians_from_surfels(some(4, 0))
    with pytest.raises(InputError, match="sigmoid"):
        surfels_from_gaussians({**gaussians, "opacities": torch.tensor([0.1, -2.0, 0.3, 0.4])})
    with pytest.raises(InputError, match="spherical harmonics"):
        surfels_from_gaussians({**gaussians, "colors": torch.zeros(4, 16, 3)})


def wall(ahead: Camera) -> Surfels:
    return RendererTests().facing(ahead, (20, 6, 41, 19), 2.0, (1.0, 0.1, 0.1))


@pytest.fixture
def ahead() -> Camera:
    K = torch.tensor([[40.0, 0, 22], [0, 40, 19], [0, 0, 1]])
    return Camera(K, torch.eye(4), width=48, height=36)[None]


def test_gradients_reach_colour_and_position(ahead: Camera) -> None:
    surfels = wall(ahead)
    for wanted in (surfels.colour, surfels.position, surfels.normal, surfels.radius):
        wanted.requires_grad_()
    seen = GsplatRenderer(twin)(surfels, ahead)
    x = torch.arange(48) + 0.5
    (seen.rgb[..., 0] * x).sum().backward()  # the picture's centre of red: moves with the surfels
    for reached in (surfels.colour, surfels.position, surfels.normal, surfels.radius):
        assert reached.grad is not None
        assert torch.isfinite(reached.grad).all()
    assert (surfels.colour.grad[:, 0] >= 0).all()  # type: ignore[index]
    assert surfels.colour.grad[:, 0].min() < surfels.colour.grad[:, 0].max()  # type: ignore[index]
    assert surfels.position.grad.abs().max() > 0  # type: ignore[union-attr]


def test_depth_moves_with_the_surfels(ahead: Camera) -> None:
    surfels = wall(ahead)
    surfels.position.requires_grad_()
    seen = GsplatRenderer(twin)(surfels, ahead)
    seen.depth[seen.mask].sum().backward()
    assert surfels.position.grad is not None
    along_z = surfels.position.grad[:, 2].sum()
    assert along_z == pytest.approx(int(seen.mask.sum()), rel=1e-4)


def test_faint_surfels_cover_nothing(ahead: Camera) -> None:
    surfels = wall(ahead)
    faint = replace(surfels, confidence=torch.full_like(surfels.confidence, 0.002))
    assert GsplatRenderer(twin)(surfels, ahead).mask.any()
    assert not GsplatRenderer(twin)(faint, ahead).mask.any()


def test_without_gsplat_the_error_says_what_to_install(
    ahead: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spmem\[gpu\]'"):
        GsplatRenderer()(wall(ahead), ahead)


@needs_gsplat
def test_surfels_on_the_cpu_are_refused(ahead: Camera) -> None:
    with pytest.raises(DeviceError, match="CUDA"):
        GsplatRenderer()(wall(ahead), ahead)


@needs_gsplat
def test_the_twin_projects_as_gsplat_does(ahead: Camera) -> None:
    from gsplat.cuda._torch_impl_2dgs import _fully_fused_projection_2dgs

    surfels = some(60, 1)
    view = Camera.look_at([0.3, -0.2, -9], [0, 0, 0], width=48, height=36)[None]
    gaussians, where = gaussians_from_surfels(surfels), view.to_gsplat()
    scales = gaussians["scales"] * torch.tensor([1, 1, 0]) + torch.tensor([0.0, 0, 1])
    _, middle, depth, M, normal = _fully_fused_projection_2dgs(
        surfels.position, gaussians["quats"], scales, where["viewmats"], where["Ks"], 48, 36
    )
    ours = project(
        surfels.position, gaussians["quats"], scales, where["viewmats"][0], where["Ks"][0]
    )
    for mine, theirs in zip(ours, (middle, depth, M, normal), strict=True):
        assert torch.allclose(mine, theirs[0], rtol=1e-3, atol=1e-3)


@needs_gsplat
@pytest.mark.gpu
def test_the_twin_draws_as_gsplat_does() -> None:
    view = BoxRoom().walk(3, width=48, height=36, sweep=0.3)
    surfels = RendererTests().room(view)
    there = Surfels(**{n: f.cuda() for n, f in vars(surfels).items() if f is not None})
    theirs, ours = GsplatRenderer()(there, view.to("cuda")), GsplatRenderer(twin)(surfels, view)
    assert (theirs.mask.cpu() == ours.mask).float().mean() > 0.99
    assert (theirs.surfel_ids.cpu() == ours.surfel_ids).float().mean() > 0.95
    assert (theirs.rgb.cpu() - ours.rgb).abs().mean() < 0.01
