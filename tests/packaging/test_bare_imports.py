"""What a GPU machine's own Python needs: a checkout without the packages that only storing and the CPU kernels use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BARE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"zarr", "icechunk", "numcodecs", "numba", "llvmlite", "PIL", "typer"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import torch
import spmem.testing.box
from spmem.kernels import columns, fuse, raster
from spmem.kernels.fuse_torch import Fusing
from spmem.stores.maps.surfels import SurfelMap
from spmem.stores.maps.batch import SurfelMapBatch

room = spmem.testing.box.BoxRoom()
cameras = room.walk(1, width=48, height=36)
rows = columns.Columns(torch.device("cpu"), chunked=False)
how = Fusing(0.1, 1, 0.04, 0.15, 0.03, 64.0, True, 0.0)
fuse.fuse(rows, room.frames(cameras)[0], how, kernel="torch")
print(raster.rasterize(rows, cameras, kernel="torch")[3].float().mean().item() > 0.9)
try:
    SurfelMap().fuse(room.frames(cameras)[0])
except ModuleNotFoundError as error:
    print(error.name)
"""


IN_RAM = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"zarr", "icechunk", "numcodecs", "simplejpeg", "google_crc32c"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import spmem
import spmem.integrations.reference.training
from spmem.integrations.reference.episodes import Episodes, record_episode
from spmem.testing.box import BoxRoom

room = BoxRoom()
frames = room.frames(room.walk(8, width=32, height=32))
with spmem.open() as memory:
    memory.store(frames[0])
    print(len(memory.retrieve(frames[1].camera).frames()))
    memory.commit()
print(Episodes.write(sys.argv[1], [record_episode(frames)]), len(Episodes(sys.argv[1])))
"""


def test_a_memory_in_ram_and_training_need_nothing_of_storage(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", IN_RAM, str(tmp_path / "episodes")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1", "1", "1"], done.stderr


def test_maps_need_neither_zarr_nor_numba() -> None:
    """Numba where its kernels are called: on the CPU."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", BARE], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["True", "numba"], done.stderr
