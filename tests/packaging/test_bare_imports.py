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


def test_maps_need_neither_zarr_nor_numba() -> None:
    """Numba where its kernels are called: on the CPU."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", BARE], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["True", "numba"], done.stderr
