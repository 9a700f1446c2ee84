"""Keep what moves out of the map: a box crosses the view, with and without a segmenter."""

import spmem
from spmem.integrations.segmentation.depth_change import DepthChange
from spmem.testing.box import BoxRoom

empty = BoxRoom()
cameras = empty.walk(6, width=96, height=72, sweep=0.3)
here = cameras[5:]


def crossed(step: int) -> BoxRoom:
    """The room with one more box, which goes to the right."""
    x = -0.8 + 0.2 * step
    return BoxRoom(solids=(*empty.solids, ((x, -0.6, 0.6), (x + 0.5, 1.2, 1.0))))


truth = empty.render(here).depth
for segmenter in (None, DepthChange()):
    with spmem.open(segmenter=segmenter) as memory:
        for frame in empty.frames(cameras):  # the room as it is
            memory.store(frame)
        for step in range(8):  # and with something going through it
            memory.store(crossed(step).frames(here)[0])
        shown = memory.retrieve(here).projection
        wrong = ((shown.depth - truth).abs() > 0.05 * truth) & shown.mask
        name = "no segmenter" if segmenter is None else type(segmenter).__name__
        print(f"{name}: {wrong.float().mean():.1%} of the view is not the empty room's")
