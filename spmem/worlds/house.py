"""A house: drawn from a seed, seen by cameras at times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from spmem.errors import CameraError, InputError
from spmem.types import Camera, Frame
from spmem.worlds.building import Building, build, remove_objects
from spmem.worlds.floorplan import SMALLEST, FloorPlan
from spmem.worlds.movers import Orbits
from spmem.worlds.noise import DepthNoise
from spmem.worlds.rendering import render
from spmem.worlds.scene import Scene

FRAME_RATE = 10.0
"""Frames a second, where no times are given."""


class View(NamedTuple):
    """What cameras ``[...]`` see, exactly.

    rgb ``[..., H, W, 3]`` uint8; depth ``[..., H, W]`` float32 z-depth in world units, 0 = none; normal
    ``[..., H, W, 3]`` float32 unit, world axes, facing the camera; instance ``[..., H, W]`` int32, 0 = none.
    """

    rgb: UInt8[Tensor, "*t h w 3"]
    depth: Float[Tensor, "*t h w"]
    normal: Float[Tensor, "*t h w 3"]
    instance: Int[Tensor, "*t h w"]


@dataclass(frozen=True)
class House:
    """Furnished rooms that doors join, the same for the same arguments.

    World axes suit OpenCV cameras: +y is down, the floor is y = 0, ceilings lie at y = -2.5 to -2.9, up is -y. One
    world unit is meant as a metre. The house is centred at x = z = 0.

    Args:
        seed: What everything is drawn from.
        rooms: How many; every one can be reached from every other.
        room_size: Mean side of a room in world units, at least 4.
        moving: Objects that go round on ellipses as time passes. All else is the same, whatever their number.
        hidden: Instances that are not there; see :meth:`hide`.

    Raises:
        InputError: Arguments that no house has.

    Example:
        >>> house = House(seed=1, rooms=2)
        >>> from spmem import worlds
        >>> cameras = worlds.walk(house, 3, width=32, height=24)
        >>> view = house.render(cameras)
        >>> view.rgb.shape, bool((view.depth > 0).all())
        (torch.Size([3, 24, 32, 3]), True)
    """

    seed: int = 0
    rooms: int = 5
    room_size: float = 4.6
    moving: int = 0
    hidden: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.rooms < 1 or self.moving < 0 or self.seed < 0:
            raise InputError(
                f"a house has rooms >= 1, moving >= 0 and seed >= 0, got {self.rooms}, {self.moving}, {self.seed}"
            )
        if not SMALLEST <= self.room_size <= 20:
            raise InputError(
                f"room_size must be {SMALLEST:g} to 20 world units, got {self.room_size}"
            )

    @property
    def plan(self) -> FloorPlan:
        """Rooms and doors."""
        return self._cached_building.plan

    @property
    def instances(self) -> tuple[str, ...]:
        """What each instance id is called, as "kitchen 1 floor" or "sofa 3"; 0 is "none"."""
        return self._cached_building.instances

    @property
    def things(self) -> range:
        """Ids of the furniture and all else that can be hidden: what is not wall, floor, ceiling or door."""
        return range(self._cached_building.first, len(self.instances))

    @property
    def movers(self) -> range:
        """Ids of what moves."""
        return range(len(self.instances) - self.moving, len(self.instances))

    def hide(self, instances: Iterable[int]) -> House:
        """The same house without some of its things; all ids stay.

        Raises:
            InputError: An id that is not a thing's.
        """
        gone = frozenset(int(i) for i in instances)
        if not gone <= set(self.things):
            raise InputError(
                f"only things can be hidden, ids {self.things.start} to {self.things.stop - 1}, got {sorted(gone)}"
            )
        return replace(self, hidden=self.hidden | gone)

    def render(self, cameras: Camera, times: Any = None, *, samples: int = 1) -> View:
        """See the house along cameras.

        Args:
            cameras: One, or any leading dims. A camera outside all rooms sees nothing: depth and instance 0.
            times: Seconds, broadcast to the cameras' leading dims; None counts along the last of them from 0, ten
                frames a second.
            samples: Rays a pixel side for the colour (odd): 3 smooths edges at nine times the cost. Depth, normal
                and instance are those at the pixel's centre, always.

        Raises:
            InputError: ``samples`` is even, or times do not fit the cameras.
        """
        if samples < 1 or samples % 2 == 0:
            raise InputError(f"samples must be odd, so that one is the pixel's centre: {samples}")
        batch = cameras.shape
        K = cameras.K.reshape(-1, 3, 3).double().cpu().numpy()
        c2w = cameras.c2w.reshape(-1, 4, 4).double().cpu().numpy()
        scene, orbits = self._visible_scene
        poses = orbits.poses(_broadcast_times(times, batch).reshape(-1))
        seen = render(scene, poses, K, c2w, cameras.width, cameras.height, samples)
        return View(
            *(torch.from_numpy(a.reshape(*batch, *a.shape[1:])).to(cameras.device) for a in seen)
        )

    def frames(
        self,
        cameras: Camera,
        times: Any = None,
        *,
        noise: DepthNoise | None = None,
        samples: int = 1,
    ) -> Iterator[Frame]:
        """The frames of a trajectory ``[T]``, each rendered when it is asked for.

        ``noise`` spoils the depth as a sensor does; ``times`` and ``samples`` are :meth:`render`'s.

        Raises:
            CameraError: The cameras are not a trajectory.
        """
        if len(cameras.shape) != 1:
            raise CameraError(
                f"frames are of a trajectory [T], got {list(cameras.shape)}; camera[None] is one of one"
            )
        return self._render_frames(cameras, _broadcast_times(times, cameras.shape), noise, samples)

    def _render_frames(
        self, cameras: Camera, times: NDArray[np.float64], noise: DepthNoise | None, samples: int
    ) -> Iterator[Frame]:
        for i, camera in enumerate(cameras):
            view = self.render(camera, times[i], samples=samples)
            depth = view.depth
            if noise is not None:
                depth = noise.spoil(depth, view.normal, camera, index=i)
            yield Frame(view.rgb, depth, camera, float(times[i]), validate=False)

    # -- what is built, once per house whatever is hidden ------------------------------------------------

    @property
    def _cached_building(self) -> Building:
        return build(self.seed, self.rooms, self.room_size, self.moving)

    @cached_property
    def _visible_scene(self) -> tuple[Scene, Orbits]:
        """Without what is hidden."""
        scene, orbits, first = (
            self._cached_building.scene,
            self._cached_building.orbits,
            self._cached_building.first,
        )
        shown = np.array([i not in self.hidden for i in self.movers], np.bool_)
        hidden = frozenset(i - first for i in self.hidden)
        return remove_objects(scene, hidden), Orbits(*(column[shown] for column in orbits))


def _broadcast_times(times: Any, batch: torch.Size) -> NDArray[np.float64]:
    """Seconds of every camera."""
    if times is None:
        count = np.arange(batch[-1]) if batch else np.zeros(())
        return np.broadcast_to(count / FRAME_RATE, tuple(batch))
    seconds = torch.as_tensor(times, dtype=torch.float64).cpu().numpy()
    try:
        return np.broadcast_to(seconds, tuple(batch))
    except ValueError as error:
        raise InputError(
            f"times {list(seconds.shape)} do not broadcast to the cameras {list(batch)}"
        ) from error
