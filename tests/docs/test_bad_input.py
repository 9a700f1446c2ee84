"""Bad input gets an error that says what is wrong; ``docs/errors.md`` lists what is tested here, and nothing else."""

from __future__ import annotations

import builtins
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import icechunk
import numpy as np
import pytest
import torch
import zarr
from torch import Tensor

import spmem
from spmem.errors import (
    CameraError,
    ConflictError,
    ConventionError,
    CorruptMemoryError,
    DeviceError,
    DTypeError,
    FormatError,
    FrameError,
    InputError,
    KeyframeNotFoundError,
    MissingExtraError,
    NotAMemoryError,
    ReadOnlyError,
    SchemaError,
    SnapshotNotFoundError,
    SpmemError,
    StoreError,
    UnknownNameError,
)
from spmem.generating import GeneratorSpec
from spmem.integrations.readers import open_walk
from spmem.integrations.writers import write_nerfstudio
from spmem.memory import SpatialMemory
from spmem.query import Query, Selection
from spmem.retrieval.rules.baseline import Baseline
from spmem.testing.box import BoxRoom
from spmem.testing.projection_generator import ProjectionGenerator
from spmem.views import Views

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
HEADER = "| what came | error | it says |"
WIDTH, HEIGHT = 32, 24
ROOM = BoxRoom()
WALK = ROOM.walk(4, width=WIDTH, height=HEIGHT, sweep=1.2)
K, C2W, CAMERA = WALK.K[1], WALK.c2w[1], WALK[1]
RGB, DEPTH = torch.full((HEIGHT, WIDTH, 3), 0.5), torch.full((HEIGHT, WIDTH), 2.0)


class Case(NamedTuple):
    """What comes in; which error it gets, and a piece of what that says; ``bad`` gets an empty folder."""

    what: str
    error: type[SpmemError]
    says: str
    bad: Callable[[Path], object]


def camera(K: Tensor = K, c2w: Any = C2W) -> spmem.Camera:
    return spmem.Camera(K, c2w, width=WIDTH, height=HEIGHT)


def frame(rgb: Any = RGB, depth: Any = DEPTH, camera: Any = CAMERA, **more: Any) -> spmem.Frame:
    return spmem.Frame(rgb, depth, camera, **more)


def intrinsics(row: int, column: int, value: float) -> Tensor:
    changed = K.clone()
    changed[row, column] = value
    return changed


def walk_with(poses: Tensor) -> None:
    """Store a walk whose poses are these, of frames that have others."""
    cameras = camera(K, poses)
    with spmem.open() as memory:
        for seen, pose in zip(ROOM.frames(WALK), cameras, strict=True):
            memory.store(seen.replace(camera=pose))


def stored(place: Path, **options: Any) -> Path:
    """A memory of one keyframe."""
    with spmem.open(place / "m.spmem", **options) as memory:
        memory.store(ROOM.frames(WALK)[0])
    return place / "m.spmem"


def reopened(place: Path, **options: Any) -> SpatialMemory:
    return spmem.open(stored(place), **options)


def one(_: Path) -> SpatialMemory:
    """A memory of one keyframe, in RAM."""
    memory = spmem.open()
    memory.store(ROOM.frames(WALK)[0])
    return memory


def closed(place: Path) -> SpatialMemory:
    memory = spmem.open()
    memory.close()
    return memory


def from_the_future(place: Path) -> None:
    path = stored(place)
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    session = repository.writable_session("main")
    zarr.open_group(session.store, mode="r+").attrs["spmem"] = {"schema": 99, "version": "9.0"}
    session.commit("a newer version")
    spmem.open(path)


def damaged(place: Path) -> None:
    path, large = place / "m.spmem", CAMERA.resize(WIDTH * 8, HEIGHT * 8)
    noise = torch.randint(0, 255, (HEIGHT * 8, WIDTH * 8, 3), dtype=torch.uint8)
    each = spmem.MemoryConfig(keyframes=spmem.KeyframeConfig(commit_every=1))
    memory = spmem.open(path, config=each)
    memory.store(spmem.Frame(noise, torch.full((HEIGHT * 8, WIDTH * 8), 2.0), large))
    memory.flush()
    record = max(path.glob("chunks/*"), key=lambda file: file.stat().st_size)
    memory.close()
    record.write_bytes(record.read_bytes()[:-100])
    with spmem.open(path, mode="r") as again:
        _ = again.keyframes[0].frame


def full_disk(place: Path) -> None:
    memory = reopened(place)
    memory.store(ROOM.frames(WALK)[3])
    full = OSError(28, os.strerror(28))
    with patch("spmem.stores.keyframes.zarr.bank.write_records", side_effect=full):
        memory.commit()


def second_writer(place: Path) -> None:
    path = stored(place)
    first, second = spmem.open(path), spmem.open(path)
    for memory in (first, second):
        memory.store(ROOM.frames(WALK)[3])
    first.commit()
    second.commit()


def sealed(place: Path) -> None:
    path = stored(place)
    path.chmod(0o555)
    try:
        spmem.open(path)
    finally:
        path.chmod(0o755)


def without_faiss(place: Path) -> None:
    config = spmem.MemoryConfig(retrieval=spmem.RetrievalConfig(index="faiss"))
    with patch.dict(sys.modules, {"faiss": None}), spmem.open(config=config) as memory:
        memory.retrieve(CAMERA)


def two_channels(place: Path) -> None:
    with spmem.open() as memory:
        for number, channels in enumerate((4, 5)):
            latent = torch.zeros(HEIGHT, WIDTH, channels)
            memory.store(ROOM.frames(WALK)[number].replace(features=latent))


class Sideways(ProjectionGenerator):
    """Gives ``[T, 3, H, W]``."""

    def generate(self, conditioning: Any, cameras: spmem.Camera, *, seed: int = 0) -> Tensor:
        return super().generate(conditioning, cameras, seed=seed).movedim(-1, 1)


class Glaring(ProjectionGenerator):
    """Gives colours in 0..255."""

    def generate(self, conditioning: Any, cameras: spmem.Camera, *, seed: int = 0) -> Tensor:
        return super().generate(conditioning, cameras, seed=seed) * 255


class Long:
    """An embedder whose vectors are as long as they come."""

    dim = 4

    def __call__(self, rgb: Tensor) -> Tensor:
        return torch.ones(len(rgb), 4)


class Elsewhere(Baseline):
    """A rule that answers what is not there."""

    def select(self, query: Query, views: Views, k: int) -> Selection:
        return Selection(np.array([99]), np.ones(1, np.float32))


def crowded(place: Path) -> None:
    """A memory whose policy names none of its keyframes."""
    config = spmem.MemoryConfig(keyframes=spmem.KeyframeConfig(novelty=0.0))
    with spmem.open(config=config, budget=1, retention=lambda held, count: [99]) as memory:
        for seen in ROOM.frames(WALK)[:2]:
            memory.store(seen)


class Large(ProjectionGenerator):
    """Makes large images only."""

    spec = GeneratorSpec(size=(512, 512))


class Forgetful(ProjectionGenerator):
    """Wants to see more than memory keeps."""

    spec = GeneratorSpec(history=99)


def roll(generator: ProjectionGenerator, *, known: bool = True, **options: Any) -> None:
    with spmem.open() as memory:
        if known:
            memory.store(ROOM.frames(WALK)[0])
        list(spmem.rollout(generator, memory, WALK, **options))


def data_set(place: Path) -> Path:
    write_nerfstudio(place / "walk", ROOM.frames(WALK))
    return place / "walk"


def missing_image(place: Path) -> None:
    path = data_set(place)
    (path / "images" / "frame_00002.png").unlink()
    _ = open_walk(path)[2]


def truncated_image(place: Path) -> None:
    image = data_set(place) / "images" / "frame_00002.png"
    image.write_bytes(image.read_bytes()[:200])
    _ = open_walk(place / "walk")[2]


def rewritten(place: Path, **changes: Any) -> Path:
    """A data set whose frames say something else."""
    file = data_set(place) / "transforms.json"
    about = json.loads(file.read_text())
    for one in about["frames"]:
        one.update(changes)
    file.write_text(json.dumps(about))
    return file.parent


def claiming_array(place: Path) -> None:
    path = rewritten(place, depth_file_path="depth.npy")
    np.lib.format.write_array_header_1_0(
        (path / "depth.npy").open("wb"),
        {"descr": "<f4", "fortran_order": False, "shape": (1 << 25, 1 << 20)},
    )
    _ = open_walk(path)[0]


def pose_line(place: Path) -> None:
    path = data_set(place)
    (path / "transforms.json").unlink()
    (path / "K.txt").write_text("32 0 16\n0 32 12\n0 0 1\n")
    line = " ".join(str(v) for v in C2W.flatten().tolist())
    (path / "poses.txt").write_text(f"{line}\n{line}\n{line.rsplit(' ', 2)[0]}\n{line}\n")
    open_walk(path)


CASES = [
    # frames
    Case("depth with NaN", FrameError, "depth has NaN", lambda _: frame(depth=DEPTH * torch.nan)),
    Case("negative depth", FrameError, "0 means none", lambda _: frame(depth=-DEPTH)),
    Case("infinite depth", FrameError, "infinite values", lambda _: frame(depth=DEPTH * torch.inf)),
    Case("16-bit depth without its scale", DTypeError, "its scale is unknown", lambda _: frame(depth=(DEPTH * 1000).to(torch.uint16))),
    Case("depth of another size than the camera", FrameError, "depth must be [24, 32]", lambda _: frame(depth=DEPTH.T)),
    Case("depth [1, H, W]", FrameError, "squeeze() it", lambda _: frame(depth=DEPTH[None])),
    Case("rgb with channels first", FrameError, "channels first", lambda _: frame(RGB.permute(2, 0, 1))),
    Case("float rgb in 0..255", FrameError, "divide by 255", lambda _: frame(RGB * 255)),
    Case("float rgb in -1..1", FrameError, "(rgb + 1) / 2", lambda _: frame(RGB * 2 - 1.5)),
    Case("rgb with alpha", FrameError, "alpha channel", lambda _: frame(torch.ones(HEIGHT, WIDTH, 4))),
    Case("rgb of another integer dtype", DTypeError, "rgb must be uint8 or float", lambda _: frame(RGB.long())),
    Case("rgb and camera on two devices", DeviceError, "rgb is on meta", lambda _: frame(RGB.to("meta", torch.uint8))),
    Case("a frame with a trajectory", FrameError, "a frame has a single camera", lambda _: frame(camera=WALK)),
    Case("a time that is not finite", FrameError, "finite seconds", lambda _: frame(time=float("nan"))),
    Case("negative confidence", FrameError, "confidence must be", lambda _: frame(confidence=-DEPTH)),
    Case("depth beyond 1e9", FrameError, "write 0 where nothing was seen", lambda _: frame(depth=DEPTH * 1e10)),
    Case("a time that float32 cannot hold", FrameError, "at most 3.40282e+38", lambda _: frame(time=1e39)),
    Case("a frame or camera cast to another dtype", DTypeError, "wanted a device, got torch.bfloat16", lambda _: frame().to(torch.bfloat16)),  # type: ignore[arg-type]
    Case("a device that is not there", DeviceError, "there is no device 'cuda:99'", lambda _: frame().to("cuda:99")),
    # cameras
    Case("singular K", CameraError, "focal lengths must be positive", lambda _: camera(intrinsics(0, 0, 0.0))),
    Case("transposed K", CameraError, "do not transpose K", lambda _: camera(K.T)),
    Case("K with skew", CameraError, "rectify skewed images", lambda _: camera(intrinsics(0, 1, 3.0))),
    Case("K normalised by the image size", CameraError, "spmem wants pixels", lambda _: camera(torch.diag(1 / torch.tensor([WIDTH, HEIGHT, 1.0])) @ K)),
    Case("c2w with a scale in it", CameraError, "c2w is not rigid", lambda _: camera(K, C2W @ torch.diag(torch.tensor([2.0, 2, 2, 1])))),
    Case("c2w that mirrors", CameraError, "determinant +1", lambda _: camera(K, C2W @ torch.diag(torch.tensor([-1.0, 1, 1, 1])))),
    Case("transposed c2w", CameraError, "c2w is transposed", lambda _: camera(K, C2W.T)),
    Case("c2w [3, 4]", CameraError, "append the row 0 0 0 1", lambda _: camera(K, C2W[:3])),
    Case("K and c2w on two devices", DeviceError, "K is on meta", lambda _: camera(K.to("meta"))),
    Case("trajectories of two lengths", CameraError, "do not broadcast", lambda _: camera(K.expand(2, 3, 3), C2W.expand(3, 4, 4))),
    Case("poses in bfloat16", DTypeError, "keep cameras in float32", lambda _: camera(K, C2W.bfloat16())),
    Case("a camera that stands beyond 1e9", CameraError, "move the world to the cameras", lambda _: camera(K, C2W + torch.eye(4)[:, :3] @ torch.full((3, 1), 1e12) * torch.eye(4)[3])),
    # store
    Case("OpenGL poses, given as OpenCV's", ConventionError, "Camera.from_opengl", lambda _: walk_with(WALK.to_opengl())),
    Case("world-to-camera poses, given as camera-to-world", ConventionError, "invert them", lambda _: walk_with(WALK.w2c)),
    Case("a frame without depth, and no estimator", FrameError, "no depth to fuse", lambda _: spmem.open().store(frame(depth=None))),
    Case("a frame that was not checked, with NaN in its depth", FrameError, "depth has NaN", lambda _: spmem.open().store(frame().replace(depth=DEPTH * torch.nan))),
    Case("a depth estimator that returns NaN", FrameError, "returned depth from nan", lambda _: spmem.open(depth=lambda rgb, cameras, known: DEPTH[None] * torch.nan).store(frame(depth=None))),
    Case("a segmenter that returns floats", DTypeError, "wanted a bool tensor [T, H, W]", lambda _: spmem.open(segmenter=lambda frames, known: DEPTH[None]).store(frame())),
    Case("an embedder whose vectors are not of unit length", InputError, "wanted unit length", lambda _: spmem.open(embedder=Long()).store(frame())),
    Case("a retention policy that names other keyframes", InputError, "was to name 1 of the 2 keyframes", crowded),
    Case("something else than a frame", InputError, "store takes a spmem.Frame", lambda _: spmem.open().store(RGB)),
    Case("features with other channels than the map's", FrameError, "features have 5 channels", two_channels),
    Case("storing with mode r", ReadOnlyError, 'open it with mode="a"', lambda place: reopened(place, mode="r").store(frame())),
    Case("a closed memory", StoreError, "the memory is closed", lambda place: closed(place).store(frame())),
    # retrieve
    Case("cameras [2, 3]", InputError, "a trajectory [T]", lambda _: spmem.open().retrieve(camera(K, C2W.expand(2, 3, 4, 4)))),
    Case("matrices in place of cameras", InputError, "retrieve takes a Camera", lambda _: spmem.open().retrieve(C2W)),
    Case("negative k", InputError, "k must be an integer >= 0", lambda _: spmem.open().retrieve(CAMERA, k=-1)),
    Case("k that is None", InputError, "k must be an integer >= 0, got None", lambda _: spmem.open().retrieve(CAMERA, k=None)),  # type: ignore[arg-type]
    Case("a method that is no rule", InputError, "method is the name of a rule or a rule", lambda _: spmem.open().retrieve(CAMERA, method=5)),  # type: ignore[arg-type]
    Case("a rule that answers keyframes that are not there", InputError, "is no keyframe or may not be answered", lambda place: one(place).retrieve(CAMERA, method=Elsewhere())),
    Case("an id that no keyframe can have", InputError, "keyframe ids are below 2**63", lambda place: one(place).remove(2**70)),
    Case("a span of time that is a number", InputError, "where.time is (start, end) in seconds", lambda place: one(place).forget(time=5)),  # type: ignore[arg-type]
    Case("an unknown rule", UnknownNameError, "did you mean 'covisibility'?", lambda _: spmem.open().retrieve(CAMERA, method="covisibilty")),
    Case("the rule oracle by its name", InputError, "the rule 'oracle' needs the ground truth", lambda _: spmem.open().retrieve(CAMERA, method="oracle")),
    Case("a keyframe that is not there", KeyframeNotFoundError, "no keyframe has the id 7", lambda place: one(place).keyframes[7]),
    # update_poses and remove
    Case("a pose for a keyframe that is not there", KeyframeNotFoundError, "no keyframe has the id 7", lambda place: one(place).update_poses({7: C2W})),
    Case("poses [2, 4, 4] for one keyframe", CameraError, "the pose of keyframe 0: c2w must be [4, 4]", lambda place: one(place).update_poses({0: WALK.c2w[:2]})),
    Case("a pose that is not rigid", CameraError, "the pose of keyframe 0: c2w is not rigid", lambda place: one(place).update_poses({0: C2W @ torch.diag(torch.tensor([2.0, 2, 2, 1]))})),
    Case("poses without ids", InputError, "poses are a mapping", lambda place: one(place).update_poses([C2W])),  # type: ignore[arg-type]
    Case("correcting with mode r", ReadOnlyError, 'open it with mode="a"', lambda place: reopened(place, mode="r").update_poses({0: C2W})),
    Case("removing a keyframe that is not there", KeyframeNotFoundError, "no keyframe has the id 7", lambda place: one(place).remove([0, 7])),
    Case("removing by something else than ids", InputError, "keyframes are named by whole numbers", lambda place: one(place).remove(["first"])),  # type: ignore[list-item]
    # rollout
    Case("cameras of a size that the generator does not make", InputError, "camera.resize() them, or crop", lambda _: roll(Large())),
    Case("a memory that keeps fewer recent frames than the generator wants", InputError, "MemoryConfig(recent=", lambda _: roll(Forgetful())),
    Case("a generator that returns channels first", FrameError, "move the channels last", lambda _: roll(Sideways())),
    Case("a generator whose colours are far outside of their range", FrameError, "declares what the model returns", lambda _: roll(Glaring())),
    Case("a generator out of a function of two arguments", InputError, "from_function takes f(history, cameras, context)", lambda _: spmem.from_function(lambda history, cameras: RGB[None])),
    Case("a memory that knows nothing of the first cameras", InputError, "there is no depth to carry on", lambda _: roll(ProjectionGenerator(), known=False)),
    Case("an unknown depth estimator", UnknownNameError, "projection-depth", lambda _: roll(ProjectionGenerator(), depth="projected")),
    # configuration
    Case("a value outside its range", InputError, "fusion.edge must be > 0", lambda _: spmem.FusionConfig(edge=0)),
    Case("an unknown geometry store", UnknownNameError, "did you mean 'surfels'?", lambda _: spmem.open(config=spmem.MemoryConfig(geometry="surfel"))),
    Case("another fusion config than the stored map's", InputError, "the stored map was built with", lambda place: reopened(place, config=spmem.MemoryConfig(fusion=spmem.FusionConfig(edge=0.1)))),
    Case("a stored configuration with unknown keys", InputError, "an unknown key speed", lambda _: spmem.MemoryConfig.from_json({"speed": 1})),
    Case("an extra that is not installed", MissingExtraError, "pip install 'spmem[cpu]'", without_faiss),
    # stored memories
    Case("an unknown mode", InputError, 'mode must be "a", "r" or "w"', lambda _: spmem.open(mode="rw")),
    Case("an address of another kind", InputError, "no keyframe store opens ftp://", lambda _: spmem.open("ftp://host/m.spmem")),
    Case("a branch that is not there", SnapshotNotFoundError, "fork(name) makes one", lambda place: spmem.open(place / "b.spmem", branch="left")),
    Case("a budget that is none", InputError, "a number of keyframes, or bytes", lambda _: spmem.open(budget="much")),
    Case("a snapshot that is not there", SnapshotNotFoundError, "snapshots() lists ids", lambda place: spmem.open(place / "s.spmem").at("yesterday")),
    Case("nothing to forget", InputError, "keyframes, a time or a region", lambda _: spmem.open().forget()),
    Case("nothing there, and mode r", NotAMemoryError, "nothing is there", lambda place: spmem.open(place / "none", mode="r")),
    Case("a folder with other files", NotAMemoryError, "stays untouched", lambda place: ((place / "a.txt").touch(), spmem.open(place))),
    Case("a memory of a newer version", SchemaError, "schema 99", from_the_future),
    Case("a damaged keyframe", CorruptMemoryError, "keyframe 0 cannot be read", damaged),
    Case("a folder that cannot be written", ReadOnlyError, "cannot be written", sealed),
    Case("a full disk", StoreError, "the last commit is intact", full_disk),
    Case("two writers", ConflictError, "another writer has committed", second_writer),
    # data sets
    Case("a data set that is not there", FormatError, "does not exist", lambda place: open_walk(place / "none")),
    Case("a folder of no known format", FormatError, "is of no known format", lambda place: open_walk(place)),
    Case("a missing image", FormatError, "is missing", missing_image),
    Case("a truncated image", FormatError, "is not a readable image", truncated_image),
    Case("a path that leads out of a data set", FormatError, "leads out of the data set", lambda place: open_walk(rewritten(place, file_path="../other/0.png"))[0]),
    Case("a name that no file has", FormatError, "is no name of a file", lambda place: open_walk(rewritten(place, file_path="a\0b.png"))[0]),
    Case("a folder or a pipe for an image", FormatError, "is no regular file", lambda place: open_walk(rewritten(place, file_path="images"))[0]),
    Case("an image of more pixels than the limit", FormatError, "the limit is 134,217,728 pixels", lambda place: open_walk(rewritten(place, w=40_000, h=40_000))),
    Case("an array that claims more than its file holds", FormatError, "bytes of an array, of which", claiming_array),
    Case("a pose line with too few numbers", FormatError, "line 3 has 14 numbers", pose_line),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_bad_input_is_told(case: Case, tmp_path: Path) -> None:
    if case.bad is sealed and os.name == "posix" and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    with pytest.raises(case.error, match=re.escape(case.says)) as caught:
        case.bad(tmp_path)
    assert type(caught.value) is case.error


def also(error: type[SpmemError]) -> str:
    """The builtin that an error of ours is too."""
    return next(base.__name__ for base in error.__mro__ if hasattr(builtins, base.__name__))


def test_the_page_lists_what_is_tested() -> None:
    rows = [f"| {c.what} | `{c.error.__name__}` (`{also(c.error)}`) | {c.says} |" for c in CASES]
    lines = PAGE.read_text().splitlines()
    told = [line for line in lines if line.startswith("| ") and line != HEADER]
    assert told == rows, "docs/errors.md should hold these rows:\n" + "\n".join(rows)
