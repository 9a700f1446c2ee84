"""The stored layout, read without spmem as docs/format.md tells, and memories of older schemas."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import spmem
from spmem import KeyframeConfig, MemoryConfig
from spmem.testing.box import BoxRoom

EVERY = MemoryConfig(keyframes=KeyframeConfig(novelty=0.0))

FOREIGN = """
import io, json, sys

import icechunk
import numpy as np
import zarr
from numcodecs.blosc import Blosc
from PIL import Image

path, out = sys.argv[1:]
repository = icechunk.Repository.open(icechunk.local_filesystem_storage(path))
root = zarr.open_group(repository.readonly_session("main").store, mode="r")
assert root.attrs["spmem"]["schema"] == 1

rows = root["keyframes"]
ids, lengths = rows["id"][:], rows["bytes"][:]
colours, depths, latents = [], [], []
for id, parts in zip(ids, lengths):
    record = rows["records"][id, : parts.sum()].tobytes()
    colour, depth = record[: parts[0]], record[parts[0] : parts[0] + parts[1]]
    latent = record[parts[:4].sum() :]
    if latent:  # a safetensors file
        start = 8 + int.from_bytes(latent[:8], "little")
        told = json.loads(latent[8:start])["latent"]
        a, b = told["data_offsets"]
        assert told["dtype"] == "F16"
        latents.append(np.frombuffer(latent[start + a : start + b], "<f2").reshape(told["shape"]))
    colours.append(np.array(Image.open(io.BytesIO(colour))))
    width, height = rows["size"][list(ids).index(id)]
    folded = np.frombuffer(Blosc().decode(depth), {2: "<u2", 4: "<u4"}[depth[3]])
    bits, last = np.zeros(len(folded), "<i4"), 65024
    for i, value in enumerate(folded.tolist()):
        if value:
            step = value - 1
            last += (step >> 1) ^ -(step & 1)
            bits[i] = last << 14
    depths.append(bits.view("<f4").reshape(height, width))

map = root["geometry"]
live = map["confidence"][:] > 0
history = [one.metadata for one in repository.ancestry(branch="main") if "keyframes" in one.metadata]
assert "spmem" not in sys.modules
np.savez(
    out, ids=ids, times=rows["time"][:], K=rows["K"][:], c2w=rows["c2w"][:], colours=colours, depths=depths, latents=latents,
    position=map["position"][:][live], normal=map["normal"][:][live], colour=map["colour"][:][live],
    surfel=map["posting_surfel"][:], keyframe=map["posting_keyframe"][:], start=map["posting_start"][:],
    history=json.dumps(history), branches=sorted(repository.list_branches()),
)
"""


def test_another_program_reads_a_memory(tmp_path: Path) -> None:
    path, out = tmp_path / "walk.spmem", tmp_path / "read.npz"
    room = BoxRoom()
    with spmem.open(path, config=EVERY) as memory:
        latents = torch.randn(4, 16, 3, 4).half()
        walk = room.frames(room.walk(4, width=64, height=48, sweep=2.0), time=0.5)
        for frame, latent in zip(walk, latents, strict=True):
            memory.store(frame.replace(latent=latent))
        memory.remove(1)
        memory.commit("three")
        memory.fork("left").close()
        surfels = memory.geometry.surfels()
        kept = {id: memory.keyframes[id].frame for id in memory.keyframes}
    subprocess.run([sys.executable, "-I", "-c", FOREIGN, path, out], check=True, timeout=120)
    read = np.load(out)
    assert read["ids"].tolist() == list(kept) == [0, 2, 3]
    assert read["branches"].tolist() == ["left", "main"]
    assert json.loads(str(read["history"]))[0] == {"keyframes": 3, "until": 3.5}
    for row, frame in enumerate(kept.values()):
        assert frame.depth is not None
        assert read["times"][row] == frame.time
        assert np.array_equal(read["depths"][row], frame.depth.numpy())
        assert np.abs(read["colours"][row].astype(int) - frame.rgb_uint8().numpy()).max() <= 3
        assert np.array_equal(read["c2w"][row], frame.camera.c2w.numpy())
        assert np.array_equal(read["K"][row], frame.camera.K.numpy())
    assert np.array_equal(read["latents"], latents[[0, 2, 3]].numpy())
    for name in ("position", "normal", "colour"):
        assert np.array_equal(read[name], getattr(surfels, name).numpy())
    assert read["keyframe"].tolist() == list(kept)
    assert read["start"][0] == 0
    assert (np.diff([*read["start"], len(read["surfel"])]) > 0).all()
