"""Pictures of memories: contact sheets, maps from above, videos. Drawn off screen, without pyplot's global state."""

from spmem.pictures.agreement import Agreement, agreement
from spmem.pictures.canvas import save
from spmem.pictures.found import found_sheet
from spmem.pictures.panels import coverage_image, depth_image, normal_image, rgb_image
from spmem.pictures.plan import ground_plan, top_down
from spmem.pictures.sheet import contact_sheet
from spmem.pictures.video import write_video

__all__ = [
    "Agreement",
    "agreement",
    "contact_sheet",
    "coverage_image",
    "depth_image",
    "found_sheet",
    "ground_plan",
    "normal_image",
    "rgb_image",
    "save",
    "top_down",
    "write_video",
]
