"""Pictures: sheets, maps, videos, and the comparison with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spmem import Camera, pictures
from spmem.errors import InputError
from spmem.opening import open as open_memory
from spmem.testing.box import BoxRoom
from spmem.types import Frame


def noise(count: int, height: int, width: int) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return list(generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def test_a_true_projection_agrees_with_the_truth() -> None:
    room = BoxRoom()
    cameras = room.walk(2, width=32, height=24)
    found = pictures.agreement(room.render(cameras), room.frames(cameras))
    assert found.coverage.tolist() == [1, 1]
    assert found.depth_error.tolist() == [0, 0]
    assert (found.psnr >= 98).all()


def test_agreement_measures_what_it_says() -> None:
    room = BoxRoom()
    cameras = room.walk(1, width=32, height=24)
    (frame,) = room.frames(cameras)
    assert frame.depth is not None
    off = frame.replace(depth=frame.depth * 1.25, rgb=(frame.rgb_float() * 0 + 0.5))
    seen = room.render(cameras)
    found = pictures.agreement(seen, [off])
    assert float(found.depth_error) == pytest.approx(0.2, rel=1e-4)
    error = (seen.rgb[0] - 0.5).square().mean()
    assert float(found.psnr) == pytest.approx(-10 * float(error.log10()), rel=1e-4)
    nothing = pictures.agreement(seen, [frame.replace(depth=torch.zeros_like(frame.depth))])
    assert torch.isnan(nothing.depth_error).all()
    with pytest.raises(InputError, match="one frame a camera"):
        pictures.agreement(seen, [])


def test_coverage_is_grey_and_the_unknown_is_not() -> None:
    mask = torch.zeros(24, 32, dtype=torch.bool)
    mask[:, :16] = True
    image = pictures.coverage_image(torch.rand(24, 32, 3), mask).astype(int)
    grey = (image == image[..., :1]).all(-1)
    assert grey[:, :16].all()
    assert not grey[:, 16:].any()


def test_depth_has_a_colour_and_none_has_not() -> None:
    depth = torch.tensor([[0.0, 1.0, 2.0, 4.0]])
    none, near, middle, far = pictures.depth_image(depth, 1.0, 4.0)[0].tolist()
    assert near[0] > near[2]  # warm
    assert len({tuple(c) for c in (none, near, middle, far)}) == 4
    assert none == list(pictures.panels.NONE)


def test_a_sheet_of_one_retrieval_and_of_several(memory: Path, frames: Sequence[Frame]) -> None:
    cameras = Camera.stack([frame.camera for frame in frames])
    with open_memory(memory, mode="r") as opened:
        one = opened.retrieve(cameras[:3], k=2)
        many = [opened.retrieve(camera, k=3, given=()) for camera in cameras[::8]]
        plain = pictures.contact_sheet(one)
        full = pictures.contact_sheet(
            many,
            frames[::8],
            memory=opened,
            title="a title",
            facts={"one": "1"},
            labels=["a", "b", "c"],
        )
        words = " ".join(text.get_text() for text in full.axes[0].texts)
        with pytest.raises(InputError, match="one a camera: 3 wanted, got 2"):
            pictures.contact_sheet(many, frames[:2])
    for expected in ("a title", "depth error", "PSNR", "alone", "covered"):
        assert expected in words
    assert "depth error" not in [text.get_text() for text in plain.axes[0].texts]
    with pytest.raises(InputError, match="at least one"):
        pictures.contact_sheet([])


def test_the_map_is_no_mirror_image_and_leaves_the_ceiling_out(memory: Path) -> None:
    with open_memory(memory, mode="r") as opened:
        plan = pictures.ground_plan(opened, 200)
        figure = pictures.top_down(opened, opened.keyframes[0].camera[None])
    assert np.linalg.det(plan.axes) == pytest.approx(1)
    assert plan.axes[2].tolist() == [0, -1, 0]  # a house's up
    assert plan.image.shape[1] == 200 >= plan.image.shape[0]
    assert plan.image[..., 3].any()
    assert figure.get_axes()


def test_a_gif_and_a_folder_hold_the_frames(tmp_path: Path) -> None:
    frames = noise(3, 10, 12)
    path = pictures.write_video(tmp_path / "a.gif", iter(frames), fps=5)
    with Image.open(path) as gif:
        assert (gif.size, gif.n_frames, gif.info["duration"]) == ((12, 10), 3, 200)  # type: ignore[attr-defined]
    folder = pictures.write_video(tmp_path / "images", frames)
    for i, frame in enumerate(frames):
        assert np.array_equal(np.array(Image.open(folder / f"{i:05d}.png")), frame)


def test_a_video_of_odd_size_is_read_again(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from spmem.integrations.readers.video_file import VideoFile

    grey = [np.full((25, 33, 3), 60 * i, np.uint8) for i in range(4)]
    video = VideoFile(pictures.write_video(tmp_path / "a.mp4", grey, fps=10))
    assert (len(video), video.size) == (4, (32, 24))
    assert video.times.tolist() == pytest.approx([0, 0.1, 0.2, 0.3])
    assert abs(float(video.rgb(2).float().mean()) - 120) < 4


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        ([], "no frames"),
        ([*noise(1, 8, 8), *noise(1, 8, 10)], "share a size"),
        ([np.zeros((8, 8, 3))], "uint8"),
        ([np.zeros((8, 8), np.uint8)], "uint8"),
    ],
)
def test_frames_that_make_no_video(tmp_path: Path, frames: list[np.ndarray], problem: str) -> None:
    for name in ("a.gif", "folder"):
        with pytest.raises(InputError, match=problem):
            pictures.write_video(tmp_path / name, frames)
    with pytest.raises(InputError, match="fps"):
        pictures.write_video(tmp_path / "a.gif", noise(1, 8, 8), fps=0)
    assert not list(tmp_path.iterdir())
