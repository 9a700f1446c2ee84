"""A recorded walk with depth: hold every tenth frame back, store the others, and ask for those held back.

    python examples/03_real_walk.py PATH_OF_A_DATA_SET [STEP]

Formats: 7-Scenes, TUM RGB-D, nerfstudio, COLMAP with depth maps, plain folders, video. STEP takes every STEP-th frame.
"""

import sys

import spmem
from spmem.integrations.readers import open_walk
from spmem.progress import track

if len(sys.argv) < 2:
    sys.exit(__doc__)
walk = open_walk(sys.argv[1])[:: int(sys.argv[2]) if len(sys.argv) > 2 else 1]
held_back = range(len(walk) // 2 % 10, len(walk), 10)
print(walk)

with spmem.open() as memory:
    for i in track(range(len(walk)), "Storing"):
        if i not in held_back:
            memory.store(walk[i])
    print(memory)

    for i in held_back:
        frame = walk[i]
        context = memory.retrieve(frame.camera, k=4, given=())
        both = context.projection.mask[0] & (frame.depth > 0)
        error = ((context.projection.depth[0] - frame.depth).abs() / frame.depth)[both]
        print(
            f"frame {i}: covered {context.coverage[0]:.0%}, depth off by {error.median():.1%} (median), "
            f"keyframes {[keyframe.id for keyframe in context.keyframes]}"
        )
