"""Equal calls give equal bits, whatever the size of the image and the number of threads."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SAMPLE = [1, 2, 3, 7, 8, 15, 17, 23, 24, 33, 40, 72, 101, 120, 177, 180, 200]
"""Heights of which several fall into bands of an odd number of rows."""

DIGESTS = """
import hashlib, json, sys
import torch
from spmem import Camera, Frame
from spmem.kernels import threads
from spmem.stores.maps.surfels import SurfelMap

def camera(width, height, z=0.0):
    K = torch.tensor([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1.0]])
    pose = torch.eye(4)
    pose[2, 3] = z
    return Camera(K, pose, width=width, height=height)

def digest(*tensors):
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()[:16]

def rough(width, height):
    g = torch.Generator().manual_seed(height)
    depth, rgb = 2 + 0.3 * torch.rand(height, width, generator=g), torch.rand(height, width, 3, generator=g)
    return Frame(rgb, depth, camera(width, height))

def fused(height):
    map = SurfelMap()
    named = [map.fuse(rough(32, height)) for _ in range(2)]
    s = map.surfels()
    return digest(*named, s.position, s.normal, s.radius, s.colour, s.confidence)

threads.WORTH = 0.001  # so that small work is shared, too
what, repeats, heights = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
map = SurfelMap()
map.fuse(rough(64, 48))
def drawn(height):
    seen = map.render(camera(32, height, 1.8)[None])
    return digest(seen.rgb, seen.depth, seen.normal, seen.mask, seen.surfel_ids)
call = {"render": drawn, "fuse": fused}[what]
found = {}
for height in heights:
    found[height] = set()
    for count in range(1, 5):
        torch.set_num_threads(count)
        found[height] |= {call(height) for _ in range(repeats)}
print(json.dumps({height: len(digests) for height, digests in found.items()}))
"""


def heights_of_many_answers(what: str, heights: list[int], repeats: int) -> dict[str, int]:
    """Heights whose calls did not all give the same bits, with how many answers there were."""
    ran = subprocess.run(
        [sys.executable, "-c", DIGESTS, what, str(repeats), json.dumps(heights)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {height: n for height, n in json.loads(ran.stdout).items() if n != 1}


@pytest.mark.parametrize("what", ["render", "fuse"])
def test_equal_calls_give_equal_bits(what: str) -> None:
    assert heights_of_many_answers(what, SAMPLE, 20) == {}


@pytest.mark.slow
@pytest.mark.parametrize("what", ["render", "fuse"])
def test_equal_calls_give_equal_bits_at_every_height(what: str) -> None:
    assert heights_of_many_answers(what, list(range(1, 201)), 30) == {}
