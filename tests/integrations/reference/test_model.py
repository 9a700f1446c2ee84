"""The network: what it may see, that memory comes in without a shock, and that a scan's cost does not grow."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spmem.errors import InputError
from spmem.integrations.reference.config import NANO, SIZES, ModelConfig
from spmem.integrations.reference.layers import StateSpace, attend, causal_window
from spmem.integrations.reference.model import Conditions, WorldModel

TINY = replace(NANO, size=32, width=32, layers=2, heads=2, states=4, keyframes=2)


def conditions(config: ModelConfig, frames: int, *, seed: int = 0) -> Conditions:
    draw = torch.Generator().manual_seed(seed)
    side = config.size

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, side, side, generator=draw)

    forms = noise(1, frames, 5), noise(1, config.keyframes, 11), noise(1, frames, 8)
    for form in forms:
        form[:, :, -1] = 1.0
    return Conditions(noise(1, frames, 6), *forms)


def shaken(model: WorldModel) -> WorldModel:
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=draw))
    return model.eval()


@pytest.mark.parametrize("backbone", ["attention", "state-space"])
def test_a_frame_sees_nothing_of_later_frames(backbone: str) -> None:
    model = shaken(WorldModel(replace(TINY, backbone=backbone)))
    video, level = torch.randn(1, 6, 4, 32, 32), torch.rand(1, 6)
    given = conditions(TINY, 6)
    first, _ = model(video, level, given)
    video[:, 4:] += 1
    level[:, 4:] = 0.5
    later, _ = model(video, level, given)
    assert torch.allclose(first[:, :4], later[:, :4], atol=1e-5)
    assert not torch.allclose(first[:, 4:], later[:, 4:], atol=1e-3)


def test_attention_does_not_reach_beyond_its_window() -> None:
    model = shaken(WorldModel(replace(TINY, window=2, layers=1)))
    video, level = torch.randn(1, 6, 4, 32, 32), torch.rand(1, 6)
    given = conditions(TINY, 6)
    first, _ = model(video, level, given)
    video[:, 0] += 1
    changed = (model(video, level, given)[0] - first).abs().amax((0, 2, 3, 4))
    assert (changed[:2] > 1e-4).all()
    assert (changed[2:] < 1e-6).all()


def test_memory_comes_in_without_a_shock() -> None:
    """At first every form adds nothing, whatever it holds; yet all of them get gradients within two steps."""
    torch.manual_seed(0)
    model = WorldModel(TINY)
    video, level = torch.randn(1, 6, 4, 32, 32), torch.rand(1, 6)
    some, other = (conditions(TINY, 6, seed=seed) for seed in (0, 1))
    nothing = Conditions(some.rays, *(torch.zeros_like(form) for form in some[1:]))
    with torch.no_grad():
        answers = [model(video, level, given)[0] for given in (some, nothing)]
    assert torch.equal(*answers)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (model(video, level, other)[0] - 1).square().mean().backward()
        optimizer.step()
    for name in ("seen.weight", "zero.0.weight", "references.weight", "draw.weight"):
        gradient = dict(model.named_parameters())[name].grad
        assert gradient is not None
        assert gradient.abs().max() > 0, name


@pytest.mark.parametrize("off", ["projection", "references", "warp", "depth"])
def test_every_form_is_a_switch(off: str) -> None:
    config = replace(TINY, **{off: False})  # type: ignore[arg-type]
    model, whole = WorldModel(config), WorldModel(TINY)
    count, all_ = (sum(p.numel() for p in m.parameters()) for m in (model, whole))
    assert count < all_
    drawn, _ = model(
        torch.randn(1, 6, config.channels, 32, 32), torch.rand(1, 6), conditions(config, 6)
    )
    assert drawn.shape == (1, 6, 3 if off == "depth" else 4, 32, 32)


def test_scanning_in_two_parts_is_scanning_at_once() -> None:
    """The state after the first frames stands for them: the dual form agrees with the recurrence."""
    torch.manual_seed(0)
    scan = StateSpace(TINY, 0)
    torch.nn.init.normal_(scan.out.weight)
    x = torch.randn(2, 7, 16, 32)
    whole, end = scan(x, None, 7)
    first, state = scan(x[:, :3], None, 3)
    second, also = scan(x[:, 3:], state, 4)
    assert torch.allclose(whole, torch.cat([first, second], 1), atol=1e-4)
    assert torch.allclose(end, also, atol=1e-5)


def test_a_scan_costs_the_same_at_any_length() -> None:
    """The state after 3 and after 30 chunks has one size, and a chunk's work is the same number of operations."""
    from torch.utils.flop_counter import FlopCounterMode

    config = replace(TINY, backbone="state-space")
    model = shaken(WorldModel(config))
    state, sizes, work = None, [], []
    with torch.no_grad():
        for _ in range(30):
            video = torch.randn(1, 6, 4, 32, 32)
            with FlopCounterMode(display=False) as counter:
                _, state = model(video, torch.zeros(1, 6), conditions(config, 6), state, 4)
            sizes.append(sum(one.numel() for one in state))
            work.append(counter.get_total_flops())
            assert all(one.isfinite().all() for one in state)
    assert len(set(sizes)) == 1
    assert len(set(work[1:])) == 1


def test_the_state_carries_what_the_window_has_lost() -> None:
    config = replace(TINY, backbone="state-space")
    model = shaken(WorldModel(config))
    given, level = conditions(config, 6), torch.zeros(1, 6)
    with torch.no_grad():
        _, one = model(torch.ones(1, 6, 4, 32, 32), level, given, None, 4)
        _, other = model(-torch.ones(1, 6, 4, 32, 32), level, given, None, 4)
        video = torch.randn(1, 6, 4, 32, 32)
        answers = [model(video, level, given, state)[0] for state in (one, other)]
    assert not torch.allclose(*answers, atol=1e-4)


def test_flex_attention_is_sdpa() -> None:
    pytest.importorskip("torch.nn.attention.flex_attention")
    q, k, v = (torch.randn(2, 2, 24, 16) for _ in range(3))
    mask = causal_window(3, 8, 2)
    known = torch.rand(2, 1, 1, 24) > 0.3
    for allowed in (mask, (mask | torch.eye(24).bool()) & (known | torch.eye(24).bool()), None):
        plain, flex = (attend(q, k, v, allowed, kind) for kind in ("sdpa", "flex"))
        assert torch.allclose(plain, flex, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["flex", "xformers"])
def test_other_attention_is_sdpa_on_cuda(kind: str) -> None:
    if kind == "xformers":
        pytest.importorskip("xformers")
    q, k, v = (torch.randn(2, 4, 128, 32, device="cuda") for _ in range(3))
    mask = causal_window(4, 32, 2, q.device)
    assert torch.allclose(attend(q, k, v, mask), attend(q, k, v, mask, kind), atol=1e-3)


def test_the_sizes_are_what_the_page_says() -> None:
    counts = {}
    for name, config in SIZES.items():
        with torch.device("meta"):
            model = WorldModel(config)
        counts[name] = sum(value.numel() for value in model.parameters()) / 1e6
    assert 1 < counts["nano"] < 3
    assert 30 < counts["small"] < 150
    assert 300 < counts["base"] < 1500


def test_bad_configurations_are_refused() -> None:
    for change, words in (
        ({"size": 60}, "size 60"),
        ({"heads": 3}, "width 128"),
        ({"backbone": "convolution"}, "backbone"),
        ({"attention": "flash"}, "attention"),
    ):
        with pytest.raises(InputError, match=words):
            replace(NANO, **change)  # type: ignore[arg-type]
