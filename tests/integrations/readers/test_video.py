"""Videos with poses beside them: in sequence, at random, from threads, and broken."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from spmem.errors import FormatError, MissingExtraError
from spmem.integrations.readers import open_walk

av = pytest.importorskip("av")

W, H, N, FPS = 64, 48, 90, 10
K = np.array([[60.0, 0, 32], [0, 60.0, 24], [0, 0, 1]])


def picture(i):
    """Frame i: its number in white bars of 8 pixels, most significant first, over a red and blue ground."""
    image = np.zeros((H, W, 3), np.uint8)
    image[: H // 2, : W // 2, 0] = 250
    image[: H // 2, W // 2 :, 2] = 250
    bits = [(i >> bit) & 1 for bit in reversed(range(8))]
    image[H // 2 :] = np.repeat(np.array(bits, np.uint8) * 255, 8)[:, None]
    return image


def number(frame):
    bars = frame.rgb[H // 2 + 4 : -4].float().mean((0, 2)).reshape(8, 8)[:, 2:6].mean(1)
    return sum(
        1 << bit for bit, bar in zip(reversed(range(8)), bars.tolist(), strict=True) if bar > 128
    )


def encode(path, codec="libx264", count=N, options=None, ticks=None):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options or {"g": "12", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        if ticks is not None:
            stream.codec_context.time_base = Fraction(1, 100)
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            if ticks is not None:
                frame.pts, frame.time_base = ticks[i], Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def c2w(count=N):
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = np.arange(count)
    return poses


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    encode(folder / "walk.mp4")
    np.savez(folder / "walk.npz", c2w=c2w(), K=K)
    return folder


def test_frames_in_sequence_with_poses_and_times(clip):
    walk = open_walk(clip)
    assert len(walk) == N
    np.testing.assert_allclose(walk.times, np.arange(N) / FPS, atol=1e-6)
    assert walk.cameras.position[:, 0].tolist() == list(range(N))
    for i, frame in enumerate(walk):
        assert number(frame) == i
        assert frame.rgb.shape == (H, W, 3)
        assert frame.depth is None
    left = walk[0].rgb[: H // 2 - 4, : W // 2 - 4].float().mean((0, 1))
    assert left[0] > 200 > 60 > max(left[1:])


def test_frames_at_random(clip):
    walk = open_walk(clip / "walk.mp4")
    order = np.random.default_rng(0).permutation(N)
    assert [number(walk[int(i)]) for i in order] == order.tolist()
    assert [number(f) for f in walk[80:60:-3]] == list(range(80, 60, -3))


def test_threads_share_a_walk(clip):
    walk = open_walk(clip)
    order = [int(i) for i in np.random.default_rng(1).permutation(N)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: number(walk[i]), order)) == order


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mkv", "libx264", {"g": "1000", "bf": "3"}),
        ("a.mov", "libx264", {"x264-params": "open-gop=1:keyint=8:bframes=3"}),
        ("a.mp4", "libx265", {"x265-params": "open-gop=1:keyint=8:bframes=3:log-level=none"}),
        ("a.webm", "libvpx-vp9", {"g": "20"}),
        ("a.avi", "mpeg4", {"g": "12"}),
    ],
)
def test_other_containers_and_codecs(tmp_path, name, codec, options):
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV encodes no {codec}")
    encode(tmp_path / name, codec, count=40, options=options)
    np.savez(tmp_path / "poses.npz", c2w=c2w(40), K=np.tile(K, (40, 1, 1)))
    walk = open_walk(tmp_path)
    assert [number(frame) for frame in walk[::-1]] == list(range(39, -1, -1))


def test_uneven_times_are_the_videos_own(tmp_path):
    ticks = np.cumsum([3, 10, 4, 20, 7, 5])
    encode(tmp_path / "a.mkv", count=6, ticks=ticks.tolist())
    np.savez(tmp_path / "poses.npz", c2w=c2w(6), K=K)
    walk = open_walk(tmp_path)
    np.testing.assert_allclose(walk.times, (ticks - ticks[0]) / 100, atol=2e-3)
    assert [number(walk[i]) for i in (5, 2, 3)] == [5, 2, 3]


def test_poses_as_text_or_json_and_depth_beside(tmp_path):
    encode(tmp_path / "a.mp4", count=4)
    np.savetxt(tmp_path / "poses.txt", c2w(4).reshape(4, 16))
    np.savetxt(tmp_path / "K.txt", K)
    for i in range(4):
        (tmp_path / "depth").mkdir(exist_ok=True)
        Image.fromarray(np.full((H, W), 100 + i, np.uint16)).save(tmp_path / "depth" / f"{i}.png")
    walk = open_walk(tmp_path, depth=tmp_path / "depth", depth_scale=0.01, axes="opengl")
    assert walk[3].depth[5, 5] == pytest.approx(1.03)
    assert walk.cameras.forward[0].tolist() == [0, 0, -1]
    frames = [{"transform_matrix": pose.tolist()} for pose in c2w(4)]
    intrinsics = {"fl_x": 60, "w": W, "h": H}
    (tmp_path / "t.json").write_text(json.dumps(intrinsics | {"frames": frames}))
    by_json = open_walk(tmp_path / "a.mp4", poses=tmp_path / "t.json")
    torch.testing.assert_close(by_json.cameras.c2w, walk.cameras.c2w)
    torch.testing.assert_close(by_json.cameras.K, walk.cameras.K)
    (tmp_path / "t.json").write_text(json.dumps(intrinsics | {"w": 32, "frames": frames}))
    with pytest.raises(FormatError, match=r"t\.json: has cameras of another size"):
        open_walk(tmp_path / "a.mp4", poses=tmp_path / "t.json")


def test_frames_of_lost_tracking_are_passed_over(tmp_path):
    encode(tmp_path / "a.mp4", count=5)
    poses = c2w(5)
    poses[1:3] = np.nan
    np.savez(tmp_path / "poses.npz", c2w=poses, K=np.tile(K, (5, 1, 1)))
    with pytest.warns(UserWarning, match="2 of 5 frames have no finite pose"):
        walk = open_walk(tmp_path)
    assert [number(frame) for frame in walk] == [0, 3, 4]
    np.testing.assert_allclose(walk.times, [0, 0.3, 0.4])
    assert walk.skipped == 2


def test_a_folder_of_two_videos_asks_which(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(FormatError, match=r"just one video; it has a\.mp4, b\.mp4"):
        open_walk(tmp_path, "video")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"c2w": c2w(7), "K": K},
            r"c2w is float64 \[7, 4, 4\]; wanted \[4, 4, 4\]: the video has 4 frames",
        ),
        ({"K": K}, r"poses\.npz: lacks the array c2w"),
        ({"c2w": c2w(4)[:, :3], "K": K}, r"poses\.npz: c2w is float64 \[4, 3, 4\]"),
        ({"c2w": c2w(4), "K": K[:2]}, r"poses\.npz: K is float64 \[2, 3\]"),
        ({"c2w": c2w(4)}, r"K\.txt: is missing; or pass K"),
        ({"c2w": np.array([{}]), "K": K}, r"poses\.npz: .* it holds object, no numbers"),
    ],
)
def test_wrong_poses_are_named(tmp_path, arrays, message):
    encode(tmp_path / "a.mp4", count=4)
    np.savez(tmp_path / "poses.npz", **arrays)
    with pytest.raises(FormatError, match=message):
        open_walk(tmp_path)


def test_poses_that_are_no_npz(tmp_path):
    encode(tmp_path / "a.mp4", count=4)
    np.savez(tmp_path / "poses.npz", c2w=c2w(4), K=K)
    whole = (tmp_path / "poses.npz").read_bytes()
    for wrong in (whole[:-40], b"", b"poses"):
        (tmp_path / "poses.npz").write_bytes(wrong)
        with pytest.raises(FormatError, match=r"poses\.npz: is not a readable \.npz"):
            open_walk(tmp_path)
    (tmp_path / "poses.npz").unlink()
    with pytest.raises(
        FormatError, match=r"a\.mp4: has no poses beside it; looked for a\.json, a\.npz, pos"
    ):
        open_walk(tmp_path / "a.mp4")
    with pytest.raises(FormatError, match=r"poses\.npz: is missing"):
        open_walk(tmp_path / "a.mp4", poses=tmp_path / "poses.npz")


def test_counts_of_depth_images_that_do_not_match(tmp_path):
    encode(tmp_path / "a.mp4", count=4)
    np.savez(tmp_path / "a.npz", c2w=c2w(4), K=K)
    (tmp_path / "depth").mkdir()
    Image.fromarray(np.ones((H, W), np.uint16)).save(tmp_path / "depth" / "0.png")
    with pytest.raises(FormatError, match=r"depth: has 1 images; a\.mp4 has 4 frames"):
        open_walk(tmp_path, depth=tmp_path / "depth")


def test_titles_may_be_in_any_alphabet(tmp_path, clip):
    content = (clip / "walk.mp4").read_bytes()
    assert b"Lavf" in content
    (tmp_path / "walk.mp4").write_bytes(content.replace(b"Lavf", b"K\xfcch"))
    np.savez(tmp_path / "walk.npz", c2w=c2w(), K=K)
    assert number(open_walk(tmp_path)[3]) == 3


def test_an_unknown_codec_is_told(tmp_path, clip):
    content = (clip / "walk.mp4").read_bytes()
    start = content.index(b"stsd")
    (tmp_path / "walk.mp4").write_bytes(content[:start] + content[start:].replace(b"avc1", b"none"))
    np.savez(tmp_path / "walk.npz", c2w=c2w(), K=K)
    with pytest.raises(FormatError, match=r"walk\.mp4: is of a codec"):
        open_walk(tmp_path)


def test_a_broken_video_is_named(tmp_path, clip):
    np.savez(tmp_path / "poses.npz", c2w=c2w(), K=K)
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(FormatError, match=r"a\.mp4: is not a readable video"):
        open_walk(tmp_path)
    raw = bytearray((clip / "walk.mp4").read_bytes())
    start = raw.index(b"mdat") + 4
    raw[start + 800 : start + 3000] = bytes(2200)
    (tmp_path / "a.mp4").write_bytes(raw)
    with pytest.raises(FormatError, match=r"a\.mp4: (frame \d+ cannot be decoded|breaks off)"):
        list(open_walk(tmp_path))


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    np.savez(tmp_path / "poses.npz", c2w=c2w(1), K=K)
    with pytest.raises(FormatError, match=r"a\.mp4: has no video stream"):
        open_walk(tmp_path)


def test_without_pyav_the_install_command_is_told(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'spmem\[formats\]'"):
        open_walk(clip)
