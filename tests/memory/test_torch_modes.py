"""Torch's modes around a memory: inference, gradients, default devices and dtypes, low precision, graphs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import spmem
from spmem import Camera, Frame
from spmem.errors import DTypeError, FrameError, InputError
from spmem.testing.box import BoxRoom

ROOM = BoxRoom()
WAY = ROOM.walk(3, width=64, height=48, sweep=1.0)
FRAMES = ROOM.frames(WAY)


def copied(frame: Frame) -> Frame:
    """The frame, of tensors that are made here, in whatever mode torch is."""
    parts = {name: part.clone() for name, part in frame.tensors().items()}
    camera = frame.camera
    own = Camera(camera.K.clone(), camera.c2w.clone(), width=camera.width, height=camera.height)
    return Frame(camera=own, time=frame.time, **parts)


def seen(memory: spmem.SpatialMemory) -> dict[str, Any]:
    answer = memory.retrieve(WAY)
    return {
        "rgb": answer.projection.rgb,
        "depth": answer.projection.depth,
        "ids": [one.id for one in answer.keyframes],
    }


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """What a memory of the frames answers where torch is in no mode."""
    memory = spmem.open()
    for frame in FRAMES:
        memory.store(frame)
    return seen(memory)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return (
        one["ids"] == other["ids"]
        and torch.equal(one["rgb"], other["rgb"])
        and torch.equal(one["depth"], other["depth"])
    )


def test_frames_of_inference_mode_are_stored_and_go_on_outside(plain: dict[str, Any]) -> None:
    memory = spmem.open()
    with torch.inference_mode():
        memory.store(copied(FRAMES[0]))
        memory.retrieve(WAY)
    for frame in FRAMES[1:]:
        memory.store(copied(frame))
    assert same(seen(memory), plain)
    shown = memory.retrieve(WAY)
    weight = torch.ones((), requires_grad=True)
    for image in (shown.projection.rgb, memory.recent[0].rgb.float()):
        assert not image.is_inference()
        (image * weight).sum().backward()  # what belongs to inference mode cannot


def test_tensors_with_gradients_are_stored_without_them(
    plain: dict[str, Any], tmp_path: Path
) -> None:
    for place in (None, tmp_path / "m.spmem"):
        with spmem.open(place) as memory:
            for frame in FRAMES:
                own = copied(frame)
                for part in (own.depth, own.camera.K, own.camera.c2w):
                    assert part is not None
                    part.requires_grad_(True)
                memory.store(own)
            assert not any(part.requires_grad for part in memory.recent[0].tensors().values())
            assert same(seen(memory), plain)
            asked = Camera(WAY.K, WAY.c2w.clone().requires_grad_(True), width=64, height=48)
            assert not memory.retrieve(asked).projection.depth.requires_grad


def test_an_estimator_may_run_in_inference_mode() -> None:
    @torch.inference_mode()
    def lift(rgb: torch.Tensor, cameras: Camera, known: Any = None) -> torch.Tensor:
        return torch.full((len(rgb), 48, 64), 2.0)

    @torch.inference_mode()
    def still(frames: Any, known: Any = None) -> torch.Tensor:
        return torch.zeros(len(frames), 48, 64, dtype=torch.bool)

    memory = spmem.open(depth=lift, segmenter=still)
    for frame in FRAMES:
        memory.store(frame.replace(depth=None))
    assert not any(part.is_inference() for one in memory.recent for part in one.tensors().values())


@pytest.fixture
def modes() -> Iterator[None]:
    """Torch's defaults are put back."""
    yield
    torch.set_default_device("cpu")
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_the_default_dtype_changes_nothing(
    modes: None, plain: dict[str, Any], dtype: torch.dtype
) -> None:
    torch.set_default_dtype(dtype)
    memory = spmem.open()
    for frame in FRAMES:
        camera = frame.camera
        own = Camera(camera.K.tolist(), camera.c2w.tolist(), width=64, height=48)
        assert frame.depth is not None
        memory.store(Frame(frame.rgb.tolist() if frame.rgb.is_floating_point() else frame.rgb, frame.depth.tolist(), own))  # fmt: skip
    assert same(seen(memory), plain)
    assert memory.find(image=FRAMES[0])
    memory.update_poses({0: FRAMES[0].camera.c2w.double() + 0})
    assert torch.get_default_dtype() == dtype


def test_the_default_device_is_no_place_for_a_memory(modes: None, plain: dict[str, Any]) -> None:
    memory = spmem.open()
    torch.set_default_device("meta")  # whatever is made there by accident has no values
    for frame in FRAMES:
        memory.store(frame)
    assert same(seen(memory), plain)
    assert memory.find(image=FRAMES[0])
    memory.remove(0)


def test_a_cast_does_not_whiten_a_frame() -> None:
    for asked in (torch.bfloat16, torch.float16, torch.float64):
        with pytest.raises(DTypeError, match="wanted a device"):
            FRAMES[0].to(asked)  # type: ignore[arg-type]
        with pytest.raises(DTypeError, match="wanted a device"):
            WAY.to(asked)  # type: ignore[arg-type]


def test_poses_in_bfloat16_are_refused_and_pictures_in_it_are_taken() -> None:
    with pytest.raises(DTypeError, match=r"c2w is torch\.bfloat16"):
        Camera(WAY.K[0], WAY.c2w[0].bfloat16(), width=64, height=48)
    with pytest.raises(DTypeError, match=r"K is torch\.bfloat16"):
        Camera(WAY.K[0].bfloat16(), WAY.c2w[0], width=64, height=48)
    frame = FRAMES[0]
    assert frame.depth is not None
    low = Frame(frame.rgb_float().bfloat16(), frame.depth.bfloat16(), frame.camera)
    assert (low.rgb - frame.rgb_float()).abs().max() < 0.01
    assert spmem.open().store(low) == 0


def test_a_compiled_function_may_ask_a_memory(plain: dict[str, Any]) -> None:
    memory = spmem.open()
    graphs: list[Any] = []

    def backend(graph: Any, example: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    @torch.compile(backend=backend)
    def step(x: torch.Tensor, frame: Frame) -> tuple[torch.Tensor, Any]:
        x = x * 2
        memory.store(frame)
        answer = memory.retrieve(WAY)
        return x + answer.projection.rgb.mean(), answer

    for frame in FRAMES:
        x, answer = step(torch.ones(3), frame)
    assert len(graphs) >= 2  # before the memory, and after it
    assert torch.allclose(x, 2 + plain["rgb"].mean())
    assert torch.equal(answer.projection.depth, plain["depth"])
    torch.compiler.reset()


def test_a_pil_image_is_a_picture() -> None:
    frame = FRAMES[0]
    picture = Image.fromarray(frame.rgb_uint8().numpy())
    assert torch.equal(Frame(picture, frame.depth, frame.camera).rgb, frame.rgb_uint8())
    memory = spmem.open()
    memory.store(frame)
    assert memory.find(image=picture)[0].keyframe.id == 0
    with pytest.raises(FrameError, match="must be \\[H, W, 3\\]"):
        Frame(picture.convert("L"), frame.depth, frame.camera)


def decoder(over: float) -> spmem.generating.FunctionGenerator:
    """A generator whose colours overshoot, as an autoencoder's do."""
    return spmem.from_function(lambda history, cameras, context: context.projection.rgb * (1 + over) - over / 2)  # fmt: skip


def test_rollout_cuts_off_what_an_autoencoder_overshoots() -> None:
    def one(over: float) -> torch.Tensor:
        memory = spmem.open()
        white = FRAMES[0].replace(rgb=torch.ones_like(FRAMES[0].rgb_float()))
        memory.store(white)
        return next(spmem.rollout(decoder(over), memory, WAY[:1])).rgb

    assert one(0.04).max() == 1
    with pytest.raises(FrameError, match="<lambda> returned colours from"):
        one(0.4)


@pytest.mark.parametrize(
    "function",
    [lambda a, b: None, lambda: None, lambda a, b, c, d: None, 3],
    ids=["two", "none", "four", "no function"],
)
def test_a_function_of_other_arguments_is_no_generator(function: Any) -> None:
    with pytest.raises(InputError, match="from_function takes"):
        spmem.from_function(function)


def test_a_function_may_take_what_it_likes_beside_its_three() -> None:
    taken = spmem.from_function(lambda history, cameras, context, seed, **more: np.ones(1))
    assert taken._takes == {"prompt", "seed", "state", "callback"}
