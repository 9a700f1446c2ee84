"""The map from above: surfels without the ceiling, the cameras' way, keyframes and the cameras asked about."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import NDArray

from spmem.camera import Camera
from spmem.pictures.canvas import GROUND, INK, PATH, QUERIES, Page
from spmem.views import THUMB

if TYPE_CHECKING:
    from spmem.memory import SpatialMemory

DISC = 4
"""Pixels that a disc reaches from its middle at most."""

Points = Float[NDArray[np.float64], "n 3"]


class GroundPlan(NamedTuple):
    """A memory seen from above.

    image ``[H, W, 4]`` uint8, first row at the bottom, transparent where nothing is; axes ``[3, 3]`` rows: the world
    directions to the right, up the page and upwards; low ``[2]`` the bottom left corner along the first two, in world
    units; pixel: the side of one, in world units.
    """

    image: UInt8[NDArray[np.uint8], "h w 4"]
    axes: Float[NDArray[np.float64], "3 3"]
    low: Float[NDArray[np.float64], " 2"]
    pixel: float

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top, in world units."""
        height, width = self.image.shape[:2]
        (x, y), p = self.low.tolist(), self.pixel
        return x, x + width * p, y, y + height * p

    def to_page(self, points: Points) -> Float[NDArray[np.float64], "n 2"]:
        """World points on the page, in world units."""
        return points @ self.axes[:2].T


def ground_plan(
    memory: SpatialMemory, width: int = 900, cameras: Camera | None = None
) -> GroundPlan:
    """Look down on a memory.

    Up is where the keyframes' image tops point on average; what lies higher than the highest of them (the ceiling) is
    left out, and what lies low is darker. The longer side of the world lies along the page's width.

    Args:
        memory: At least one surfel, or the plan is one transparent pixel.
        width: Width of the image, in pixels.
        cameras: Cameras ``[T]`` that the plan must show too.
    """
    surfels = memory.geometry.surfels()
    position, colour = (t.cpu().double().numpy() for t in (surfels.position, surfels.colour))
    c2w = memory.views.c2w.astype(np.float64)
    eyes = c2w[:, :3, 3]
    if cameras is not None:
        eyes = np.concatenate([eyes, cameras.position.reshape(-1, 3).cpu().double().numpy()])
    if not len(position):
        return GroundPlan(np.zeros((1, 1, 4), np.uint8), np.eye(3), np.zeros(2), 1.0)
    axes = _choose_plan_axes(c2w[:, :3, 1], position)
    across, height = position @ axes[:2].T, position @ axes[2]
    shown = np.concatenate([np.percentile(across, [0.2, 99.8], axis=0), eyes @ axes[:2].T])
    low, high = shown.min(0), shown.max(0)
    margin = 0.03 * float((high - low).max())
    low, high = low - margin, high + margin
    pixel = float((high - low)[0]) / width
    size = np.ceil(np.round((high - low) / pixel, 6)).astype(int)  # the width itself, exactly
    inside = ((across >= low) & (across < high)).all(1)
    if len(c2w):
        inside &= height <= (c2w[:, :3, 3] @ axes[2]).max()
    rows = np.flatnonzero(inside)
    rows = rows[np.argsort(height[rows], kind="stable")]
    radius = surfels.radius.cpu().double().numpy()[rows] / pixel
    image = _paint_discs(
        (across[rows] - low) / pixel, radius, _shade_by_height(colour[rows], height[rows]), size
    )
    return GroundPlan(image, axes, low, pixel)


def top_down(memory: SpatialMemory, cameras: Camera | None = None) -> Figure:
    """A map of the memory: its surfels, the way of its keyframes, and the cameras ``[T]`` that are asked about."""
    plan = ground_plan(memory, cameras=cameras)
    page = Page(12.0, 12.0 * plan.image.shape[0] / plan.image.shape[1])
    queries = [] if cameras is None else [(camera, QUERIES[0]) for camera in cameras]
    draw_plan(page.axes(0, 0, page.width, page.height), plan, memory, queries)
    return page.figure


def draw_plan(
    axes: Axes, plan: GroundPlan, memory: SpatialMemory, queries: Sequence[tuple[Camera, str]]
) -> None:
    """Draw a plan with the keyframes, and cameras in colours; the ground fills the axes."""
    left, right, bottom, top = plan.extent
    reach = 0.025 * max(right - left, top - bottom)
    axes.set_axis_on()
    axes.set(facecolor=GROUND, xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.imshow(plan.image, extent=plan.extent, origin="lower", interpolation="antialiased")
    c2w = memory.views.c2w.astype(np.float64)
    way = plan.to_page(c2w[np.argsort(memory.views.times, kind="stable"), :3, 3])
    axes.plot(way[:, 0], way[:, 1], color=PATH, linewidth=1.3, label="way")
    wide = THUMB[1] / 2 / memory.views.K[:, 0, 0].astype(np.float64)
    outline = {"facecolor": "none", "edgecolor": "white", "linewidth": 0.6, "alpha": 0.75}
    _draw_frusta(axes, plan, c2w, wide, reach, label="keyframes", **outline)
    for i, (camera, colour) in enumerate(queries):
        pose = camera.c2w[None].cpu().double().numpy()
        half = np.array([camera.width / 2 / float(camera.K[0, 0])])
        look = {"facecolor": colour, "edgecolor": "white", "linewidth": 0.9, "alpha": 0.92}
        label = "" if i else "asked about"
        _draw_frusta(axes, plan, pose, half, 1.6 * reach, zorder=4, label=label, **look)
    _fit_extent(axes, plan.extent)
    axes.legend(loc="lower left", frameon=False, labelcolor=INK, fontsize=8, ncols=3)
    _scale_bar(axes, right - left)


def _choose_plan_axes(down: Points, position: Points) -> Float[NDArray[np.float64], "3 3"]:
    """Rows: right, up the page, upwards; a right-handed frame, so that the map is no mirror image."""
    mean = down.sum(0) if len(down) else np.zeros(3)
    d = mean / np.linalg.norm(mean) if np.linalg.norm(mean) > 1e-6 else np.array([0.0, 1.0, 0.0])
    nearest = np.abs(d).argmax()
    if abs(d[nearest]) > 0.95:  # the world is levelled: its axis is better than the cameras' mean
        d = np.eye(3)[nearest] * np.sign(d[nearest])
    right = np.eye(3)[min((0, 2, 1), key=lambda axis: abs(d[axis]))]
    right = right - float(right @ d) * d
    right /= np.linalg.norm(right)
    up = np.cross(right, d)
    spread = np.ptp(position @ np.stack([right, up]).T, axis=0)
    if spread[1] > spread[0]:
        right, up = up, -right
    return np.stack([right, up, -d])


def _shade_by_height(colour: Points, height: NDArray[np.float64]) -> Points:
    """Darker where it is low."""
    if not len(height):
        return colour
    floor, top = np.percentile(height, [2, 98])
    share = ((height - floor) / max(float(top - floor), 1e-9)).clip(0, 1)
    lit: Points = colour.clip(0, 1) * (0.5 + 0.5 * share)[:, None]
    return lit


def _paint_discs(
    at: Float[NDArray[np.float64], "n 2"],
    radius: Float[NDArray[np.float64], " n"],
    colour: Points,
    size: NDArray[np.int64],
) -> UInt8[NDArray[np.uint8], "h w 4"]:
    """Discs of n points that lie upon one another in their order."""
    width, height = size.tolist()
    top = np.full((height, width), -1)
    x, y = np.floor(at).astype(int).T
    rank, reach = np.arange(len(at)), radius.clip(0.5, DISC)
    offsets = range(-DISC, DISC + 1)
    for dx, dy in product(offsets, offsets):
        on = (dx * dx + dy * dy <= reach**2) & (x + dx >= 0) & (x + dx < width)
        on &= (y + dy >= 0) & (y + dy < height)
        layer = np.full_like(top, -1)
        layer[y[on] + dy, x[on] + dx] = rank[on]  # of several assignments the last one stays
        np.maximum(top, layer, out=top)
    image = np.zeros((height, width, 4), np.uint8)
    image[top >= 0, :3] = (255 * colour[top[top >= 0]]).round()
    image[top >= 0, 3] = 255
    return image


def _draw_frusta(
    axes: Axes,
    plan: GroundPlan,
    c2w: NDArray[np.float64],
    wide: NDArray[np.float64],
    reach: float,
    **look: Any,
) -> None:
    """What cameras see to their left and right, as triangles ``reach`` long."""
    tip, side, ahead = (plan.to_page(c2w[:, :3, i]) for i in (3, 0, 2))
    corners = [tip + reach * (ahead + sign * wide[:, None] * side) for sign in (-1, 1)]
    axes.add_collection(PolyCollection(list(np.stack([tip, *corners], 1)), **look))


def _fit_extent(axes: Axes, extent: tuple[float, float, float, float]) -> None:
    """Show the extent at its middle, with as much more as fills the axes at equal scales."""
    left, right, bottom, top = extent
    size = axes.get_window_extent()
    unit = max((right - left) / size.width, (top - bottom) / size.height)
    x, y = unit * size.width - (right - left), unit * size.height - (top - bottom)
    axes.set(xlim=(left - x / 2, right + x / 2), ylim=(bottom - y / 2, top + y / 2))
    axes.set_aspect("equal")


def _scale_bar(axes: Axes, width: float) -> None:
    """A bar of 1, 2 or 5 times a power of ten world units, at the bottom right."""
    aim = width / 8
    power = 10.0 ** np.floor(np.log10(aim))
    length = power * max(step for step in (1, 2, 5) if step * power <= aim)
    words = f"{length:g} world unit" + ("" if length == 1 else "s")
    look = {"color": INK, "frameon": False, "label_top": True, "pad": 0.8, "sep": 4}
    axes.add_artist(
        AnchoredSizeBar(
            axes.transData,
            length,
            words,
            "lower right",
            fontproperties=FontProperties(size=8),
            **look,
        )
    )
