"""Frames that go out in a format and come in again are the same, within what each format can hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from spmem import Camera, Frame
from spmem.errors import FormatError, InputError
from spmem.integrations.readers import open_walk, read_lerobot
from spmem.integrations.writers import (
    LeRobotEpisode,
    write_colmap,
    write_lerobot,
    write_nerfstudio,
    write_realestate10k,
    write_tum,
    write_video,
)
from spmem.testing.box import BoxRoom

W, H, N = 48, 36, 5
ROOM = BoxRoom()
FPS = 10


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    way = ROOM.walk(N, width=W, height=H)
    bytes_ = [frame.replace(rgb=frame.rgb_uint8()) for frame in ROOM.frames(way)]
    return [frame.replace(time=i / FPS) for i, frame in enumerate(bytes_)]


def write(format: str, folder: Path, frames: list[Frame]) -> dict[str, object]:
    """Write frames; what ``open_walk`` must be told besides."""
    if format == "tum":
        write_tum(folder, frames)
        return {"path": folder, "K": frames[0].camera.K}
    if format == "realestate10k":
        write_realestate10k(folder, frames, url="https://example.org/video")
        return {"path": folder / "clip.txt", "images": folder / "clip"}
    if format == "video":
        write_video(folder, frames, fps=FPS, lossless=True)
        return {"path": folder, "depth": folder / "depth"}
    if format == "lerobot":
        write_lerobot(folder, [LeRobotEpisode(frames)], fps=FPS, lossless=True)
    elif format == "nerfstudio":
        write_nerfstudio(folder, frames)
    else:
        write_colmap(folder, frames)
    return {"path": folder}


# What each format keeps: decimals of poses, whether depth and times, and steps of depth.
KEEPS = {
    "nerfstudio": (1e-6, 0.0005, 0.0),
    "colmap": (1e-5, None, None),
    "tum": (1e-6, 0.0001, 1e-6),
    "realestate10k": (1e-6, None, 1e-6),
    "video": (1e-6, 0.0005, 1e-3),
    "lerobot": (1e-7, 0.0005, 1e-6),
}


@pytest.mark.parametrize("format", KEEPS)
def test_a_round_trip(format: str, frames: list[Frame], tmp_path: Path) -> None:
    poses, depth, times = KEEPS[format]
    told = write(format, tmp_path / "set", frames)
    walk = open_walk(told.pop("path"), **told)  # type: ignore[arg-type]
    assert len(walk) == N
    for i, (got, frame) in enumerate(zip(walk, frames, strict=True)):
        assert (got.camera.width, got.camera.height) == (W, H)
        torch.testing.assert_close(got.camera.c2w, frame.camera.c2w, atol=poses, rtol=0)
        torch.testing.assert_close(got.camera.K, frame.camera.K, atol=1e-4, rtol=0)
        assert torch.equal(got.rgb, frame.rgb), f"frame {i}: {format} changes colours"
        if depth is None:
            assert got.depth is None
        else:
            assert got.depth is not None
            assert frame.depth is not None
            assert (got.depth - frame.depth).abs().max() <= depth + 1e-6
        if times is not None:
            assert got.time is not None
            assert frame.time is not None
            assert abs(got.time - frame.time) <= times


@pytest.mark.parametrize("format", KEEPS)
def test_nothing_is_overwritten_unasked(format: str, frames: list[Frame], tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("keep me")
    with pytest.raises(FormatError, match="not empty"):
        write(format, tmp_path / "set", frames)
    assert [p.name for p in (tmp_path / "set").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("format", KEEPS)
def test_no_frames_are_an_error_and_leave_nothing(format: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write(format, tmp_path / "set", [])
    assert not list(tmp_path.iterdir())


def test_lossy_video_keeps_colours(frames: list[Frame], tmp_path: Path) -> None:
    colour = torch.tensor([204, 76, 25], dtype=torch.uint8)
    even = [frame.replace(rgb=colour.expand(H, W, 3).contiguous()) for frame in frames]
    write_video(tmp_path / "even", even, fps=FPS)
    for got in open_walk(tmp_path / "even"):
        assert (got.rgb.int() - colour.int()).abs().max() <= 2
    write_video(tmp_path / "set", frames, fps=FPS)
    pairs = zip(open_walk(tmp_path / "set"), frames, strict=True)
    off = [(got.rgb.float() - frame.rgb.float()).abs().mean() for got, frame in pairs]
    assert max(off) < 10  # of 255, on few pixels in strong colours


def test_odd_sizes_are_said_to_be_no_video(tmp_path: Path) -> None:
    odd = ROOM.frames(ROOM.walk(2, width=33, height=24))
    with pytest.raises(InputError, match="33x24"):
        write_video(tmp_path / "set", odd, fps=10)


def test_tum_wants_one_camera_and_ascending_times(frames: list[Frame], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ascending"):
        write_tum(tmp_path / "set", frames[::-1])
    camera = frames[1].camera
    wide = Camera(camera.K * torch.tensor([[1.1], [1.1], [1.0]]), camera.c2w, width=W, height=H)
    with pytest.raises(InputError, match="one camera"):
        write_tum(tmp_path / "set", [frames[0], frames[1].replace(camera=wide)])


def test_realestate10k_lines_are_as_documented(frames: list[Frame], tmp_path: Path) -> None:
    write_realestate10k(tmp_path / "set", frames, url="https://example.org/v")
    lines = (tmp_path / "set" / "clip.txt").read_text().splitlines()
    assert lines[0] == "https://example.org/v"
    numbers = lines[2].split()
    assert len(numbers) == 19
    assert numbers[0] == "100000"  # microseconds, whole
    assert float(numbers[1]) == pytest.approx(float(frames[1].camera.K[0, 0]) / W, abs=1e-8)
    w2c = np.array(numbers[7:], float).reshape(3, 4)
    np.testing.assert_allclose(w2c, frames[1].camera.w2c[:3], atol=1e-6)


class TestLeRobot:
    """What only this format has: several episodes, tasks, actions, statistics."""

    @pytest.fixture
    def folder(self, frames: list[Frame], tmp_path: Path) -> Path:
        draw = np.random.default_rng(0)
        episodes = [
            LeRobotEpisode(frames[:3], "look left", {"action": draw.normal(size=(3, 2))}),
            LeRobotEpisode(frames[2:], "look right", {"action": draw.normal(size=(3, 2))}),
            LeRobotEpisode(frames[1:3], "look left", {"action": draw.normal(size=(2, 2))}),
        ]
        write_lerobot(tmp_path / "set", episodes, fps=FPS, lossless=True)
        return tmp_path / "set"

    def test_episodes_share_files_and_come_apart(self, folder: Path, frames: list[Frame]) -> None:
        assert len(list((folder / "data").rglob("*.parquet"))) == 1
        assert len(list((folder / "videos").rglob("*.mp4"))) == 1
        walk = open_walk(folder, episode=1)
        assert len(walk) == 3
        assert torch.equal(walk[2].rgb, frames[4].rgb)
        assert walk[0].time == 0.0
        assert torch.equal(open_walk(folder, episode=2)[0].rgb, frames[1].rgb)

    def test_columns_and_tasks(self, folder: Path) -> None:
        draw = np.random.default_rng(0)
        draw.normal(size=(3, 2))
        rows = read_lerobot(folder, 1)
        assert rows.tasks == ("look right",)
        np.testing.assert_allclose(rows.columns["action"], draw.normal(size=(3, 2)), atol=1e-6)
        assert rows.columns["index"].tolist() == [3, 4, 5]
        assert rows.columns["task_index"].tolist() == [1, 1, 1]

    def test_the_layout_is_the_documented_one(self, folder: Path) -> None:
        import pyarrow.parquet as pq

        info = json.loads((folder / "meta" / "info.json").read_text())
        assert info["codebase_version"] == "v3.0"
        assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 8, 2)
        assert info["splits"] == {"train": "0:3"}
        assert info["features"]["observation.images.main"]["shape"] == [H, W, 3]
        assert info["features"]["action"] == {"dtype": "float32", "shape": [2], "names": None}
        table = pq.read_table(folder / "data" / "chunk-000" / "file-000.parquet")
        stored = {n for n, f in info["features"].items() if f["dtype"] != "video"}
        assert set(table.column_names) == stored
        assert str(table.schema.field("timestamp").type) == "float"
        episodes = pq.read_table(folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
        assert episodes.column("dataset_from_index").to_pylist() == [0, 3, 6]
        key = "videos/observation.images.main"
        assert episodes.column(f"{key}/from_timestamp").to_pylist() == pytest.approx([0, 0.3, 0.6])
        assert episodes.column("stats/action/count").to_pylist() == [[3], [3], [2]]
        tasks = pq.read_table(folder / "meta" / "tasks.parquet")
        assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]

    def test_statistics_are_those_of_the_pixels(self, folder: Path, frames: list[Frame]) -> None:
        stats = json.loads((folder / "meta" / "stats.json").read_text())["observation.images.main"]
        shown = [*frames[:3], *frames[2:], *frames[1:3]]
        pixels = torch.stack([f.rgb_float() for f in shown]).flatten(0, 2)
        np.testing.assert_allclose(np.ravel(stats["mean"]), pixels.mean(0), atol=1e-5)
        np.testing.assert_allclose(np.ravel(stats["std"]), pixels.std(0, correction=0), atol=1e-5)
        assert np.shape(stats["min"]) == (3, 1, 1)

    def test_what_is_missing_is_named(self, folder: Path) -> None:
        with pytest.raises(FormatError, match="no episode 7; it has 3"):
            open_walk(folder, episode=7)
        with pytest.raises(FormatError, match=r"videos observation\.images\.main"):
            open_walk(folder, camera="observation.images.wrist")
        with pytest.raises(FormatError, match="no feature 'tcp'"):
            open_walk(folder, pose="tcp")
        info = json.loads((folder / "meta" / "info.json").read_text())
        (folder / "meta" / "info.json").write_text(
            json.dumps(info | {"data_path": "../{chunk_index}"})
        )
        with pytest.raises(FormatError, match="leads out of the data set"):
            open_walk(folder)
        (folder / "meta" / "info.json").write_text(json.dumps(info | {"codebase_version": "v2.1"}))
        with pytest.raises(FormatError, match=r"v2\.1; wanted v3"):
            open_walk(folder, "lerobot")

    def test_wrong_columns_are_said(self, frames: list[Frame], tmp_path: Path) -> None:
        with pytest.raises(InputError, match="one row a frame"):
            write_lerobot(
                tmp_path / "a", [LeRobotEpisode(frames, columns={"action": np.zeros(2)})], fps=5
            )
        with pytest.raises(InputError, match="written by itself"):
            write_lerobot(
                tmp_path / "b", [LeRobotEpisode(frames, columns={"index": np.zeros(N)})], fps=5
            )
        with pytest.raises(InputError, match="other columns"):
            write_lerobot(
                tmp_path / "c",
                [LeRobotEpisode(frames, columns={"action": np.zeros(N)}), LeRobotEpisode(frames)],
                fps=5,
            )


def test_a_lerobot_set_laid_out_by_lerobot_itself_opens(
    frames: list[Frame], tmp_path: Path
) -> None:
    """Rows as lerobot's own writer leaves them: poses as a position and a quaternion, no intrinsics, two cameras."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from spmem.geometry import quaternion_from_matrix
    from spmem.integrations.writers.encoding import encode

    root = tmp_path / "set"
    for camera in ("observation.images.top", "observation.images.wrist"):
        video = root / "videos" / camera / "chunk-000" / "file-000.mp4"
        video.parent.mkdir(parents=True)
        encode(video, [frame.rgb_uint8().numpy() for frame in frames], fps=FPS)
    poses = []
    for frame in frames:
        w, x, y, z = quaternion_from_matrix(frame.camera.c2w[:3, :3]).tolist()
        poses.append([*frame.camera.position.tolist(), x, y, z, w])
    data = root / "data" / "chunk-000" / "file-000.parquet"
    data.parent.mkdir(parents=True)
    number = list(range(N))
    pq.write_table(
        pa.table(
            {
                "observation.state.tcp": pa.array(poses, pa.list_(pa.float32(), 7)),
                "timestamp": pa.array([i / FPS for i in number], pa.float32()),
                "frame_index": number,
                "episode_index": [0] * N,
                "index": number,
                "task_index": [0] * N,
            }
        ),
        data,
    )
    row = {"episode_index": 0, "tasks": ["wave"], "length": N, "data/chunk_index": 0, "data/file_index": 0}  # fmt: skip
    for camera in ("observation.images.top", "observation.images.wrist"):
        row |= {f"videos/{camera}/{k}": 0 for k in ("chunk_index", "file_index")}
        row |= {f"videos/{camera}/from_timestamp": 0.0, f"videos/{camera}/to_timestamp": N / FPS}
    (root / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist([row]), root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    )
    video_feature = {"dtype": "video", "shape": [H, W, 3], "names": ["height", "width", "channels"]}
    info = {
        "codebase_version": "v3.0", "fps": FPS, "total_episodes": 1, "total_frames": N,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {"observation.images.top": video_feature, "observation.images.wrist": video_feature},
    }  # fmt: skip
    (root / "meta" / "info.json").write_text(json.dumps(info))
    walk = open_walk(
        root, camera="observation.images.wrist", pose="observation.state.tcp", K=frames[0].camera.K
    )
    for got, frame in zip(walk, frames, strict=True):
        torch.testing.assert_close(got.camera.c2w, frame.camera.c2w, atol=1e-5, rtol=0)
    with pytest.raises(FormatError, match="name one"):
        open_walk(root)
    with pytest.raises(FormatError, match="no intrinsics"):
        open_walk(root, camera="observation.images.top", pose="observation.state.tcp")
