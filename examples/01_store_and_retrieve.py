"""Store a walk, close the memory, open it again, and ask about the way back."""

import spmem
from spmem import worlds

house = worlds.House(seed=1, rooms=2)
cameras = worlds.reverse(house, 24, turn=False, width=64, height=48)  # to another room, and back
frames = list(house.frames(cameras))

with spmem.open("house.spmem", mode="w") as memory:
    for frame in frames[:12]:
        memory.store(frame)
    print(memory)

with spmem.open("house.spmem", mode="r") as memory:
    context = memory.retrieve(cameras[12:], k=4)

    print(f"covered: {context.coverage.mean():.0%} of the way back")
    for contribution in context.explain():
        print(
            f"keyframe {contribution.id} of {contribution.time:.1f} s "
            f"saw {contribution.sees:.0%}, alone {contribution.alone:.0%}"
        )

    truth = house.render(cameras[12:]).depth
    known = context.projection.mask
    error = ((context.projection.depth - truth).abs() / truth)[known].median()
    print(f"depth of the projection is off by {error:.2%} (median)")
