"""``spmem warm``: the kernels compiled before they are needed."""

from __future__ import annotations

from time import perf_counter

from spmem.cli.shell import Json, print_table
from spmem.evaluation.printing import print_json


def warm(as_json: Json = False) -> None:
    """Compile the CPU kernels for this machine, drawn worlds' too; they are kept on disk, and later calls start at once.

    Not needed: without it the first calls compile what they need.
    """
    import spmem
    from spmem.progress import track
    from spmem.retrieval.rules import METHODS
    from spmem.testing.box import BoxRoom
    from spmem.worlds import House, walk

    room, start = BoxRoom(), perf_counter()
    frames = room.frames(room.walk(2, width=80, height=60), time=0.0)
    in_bytes = [frame.replace(rgb=(frame.rgb_float() * 255).round().byte()) for frame in frames]
    sure = [frame.replace(confidence=frame.depth) for frame in frames]
    voxels = (None, 0.5)  # pixel by pixel, and in blocks of pixels
    for images in track((frames, in_bytes, sure), "Compiling"):
        for voxel in voxels:
            config = spmem.MemoryConfig(fusion=spmem.FusionConfig(voxel=voxel))
            with spmem.open(None, config=config) as memory:
                for frame in images:
                    memory.store(frame)
                for method in METHODS:
                    memory.retrieve(frames[0].camera, method=method)
                memory.update_poses({0: frames[1].camera.c2w})
    house = House(seed=0, rooms=2)
    house.render(walk(house, 2, width=32, height=24))
    seconds = round(perf_counter() - start, 1)
    if as_json:
        print_json({"seconds": seconds})
    else:
        print_table("kernels are compiled", {"seconds": f"{seconds:g}"})
