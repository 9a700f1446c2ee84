"""What a generator says about itself, what it may return, and a generator out of a plain function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import FrameError, InputError
from spmem.returned import checked_depth, name_of
from spmem.types import Frame, Retrieval

SLOTS = ("projection", "warp", "references", "recent", "latents", "cameras", "prompt")
"""What a generator can be given: the rendered scene with its mask; pixels of keyframes warped to the cameras; keyframes;
the last frames; their latents; poses; words."""
LAYOUTS = ("THWC", "TCHW", "CTHW")
AXES = ("opencv", "opengl")
OVER = 0.05
"""How far colours may lie outside of their range, as a share of it: autoencoders overshoot. It is cut off."""


@dataclass(frozen=True)
class FrameCount:
    """How many frames a model can make at once: ``stride * n + offset``, between ``least`` and ``most``.

    Example:
        >>> FrameCount(4, 1).fit(14), FrameCount().fit(14), FrameCount.fixed(16).fit(14)
        (17, 14, 16)
    """

    stride: int = 1
    offset: int = 0
    least: int = 1
    most: int | None = None

    def __post_init__(self) -> None:
        if self.stride < 1 or self.offset < 0 or self.least < 1:
            raise InputError(f"frame counts are stride * n + offset, n >= 0, at least 1: {self}")

    @staticmethod
    def fixed(count: int) -> FrameCount:
        """Always the same."""
        return FrameCount(1, 0, count, count)

    def fit(self, count: int) -> int:
        """The smallest number that is allowed and at least ``count``.

        Raises:
            InputError: The model cannot make so many.
        """
        wanted = max(count, self.least)
        fit = self.offset + self.stride * max(-(-(wanted - self.offset) // self.stride), 0)
        if self.most is not None and fit > self.most:
            raise InputError(
                f"the generator makes at most {self.most} frames at once, not {count}; take a smaller chunk"
            )
        return fit


@dataclass(frozen=True)
class GeneratorSpec:
    """What a generator takes and gives; :func:`spmem.rollout` fits itself to it. The default takes and gives everything.

    frames: How many it can make at once, echoed ones included. Cameras are added at the end to make up the number (the
        last one again), and what was made for them is dropped.
    multiple: Of which width and height must be multiples; other cameras are an error, nothing is resized.
    size: The only width and height that it makes, or None.
    value_range: Of the colours that it returns; they are brought to [0, 1].
    layout: Of the frames that it returns: THWC, TCHW or CTHW.
    history: The last frames that it wants to see, in ``context.recent``: the memory must keep as many.
    echoed: How many of the last frames it repeats at the beginning of what it returns; they are dropped. Where there
        are fewer, it repeats those.
    echo_stride: Where there are fewer than ``echoed``, it repeats ``echo_stride * n + 1`` of them, as many as there
        are at most: what fills whole latents of a causal video autoencoder. See :meth:`echoes`.
    slots: What of a retrieval it reads, of :data:`SLOTS`. Without ``references`` and ``warp`` no keyframe is
        searched for.
    state: It is given ``state=`` what it returned with the chunk before (:attr:`Generated.state`), None at first.
    callback: It is given ``callback=``, and calls it at each step of denoising.
    latent_stride: Frames, rows and columns that one latent stands for; for parts that write into latents.
    axes: Of the poses that its model takes, ``opencv`` or ``opengl``. It converts them itself; see ``Camera.to_opengl``.
    """

    frames: FrameCount = field(default_factory=FrameCount)
    multiple: int = 1
    size: tuple[int, int] | None = None
    value_range: tuple[float, float] = (0.0, 1.0)
    layout: str = "THWC"
    history: int = 0
    echoed: int = 0
    echo_stride: int = 1
    slots: frozenset[str] = frozenset(SLOTS)
    state: bool = False
    callback: bool = False
    latent_stride: tuple[int, int, int] = (1, 1, 1)
    axes: str = "opencv"

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise InputError(f"layout must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        if self.axes not in AXES:
            raise InputError(f"axes must be one of {', '.join(AXES)}, got {self.axes!r}")
        if unknown := set(self.slots) - set(SLOTS):
            raise InputError(f"slots are {', '.join(SLOTS)}; there is no {sorted(unknown)}")
        if self.multiple < 1 or min(self.history, self.echoed) < 0:
            raise InputError("multiple must be >= 1, history and echoed >= 0")
        if self.echo_stride < 1 or (self.echoed and (self.echoed - 1) % self.echo_stride):
            raise InputError(
                f"echoed must be a multiple of echo_stride = {self.echo_stride}, and 1 more, got {self.echoed}"
            )
        if not self.value_range[0] < self.value_range[1]:
            raise InputError(f"value_range goes from low to high, got {self.value_range}")

    def echoes(self, recent: int) -> int:
        """How many frames it repeats where there are ``recent`` last frames.

        Example:
            >>> spec = GeneratorSpec(echoed=9, echo_stride=4)
            >>> tuple(spec.echoes(recent) for recent in (0, 1, 4, 5, 12))
            (0, 1, 1, 5, 9)
        """
        there = min(self.echoed, recent)
        return there - (there - 1) % self.echo_stride if there else 0

    def check_size(self, cameras: Camera) -> None:
        """Raises InputError where the generator cannot make images of the cameras' size."""
        size = (cameras.width, cameras.height)
        if self.size is not None and size != self.size:
            raise InputError(
                f"the generator makes {self.size[0]}x{self.size[1]}, the cameras are {size[0]}x{size[1]}; "
                "camera.resize() them, or crop"
            )
        if size[0] % self.multiple or size[1] % self.multiple:
            raise InputError(
                f"the generator makes sizes that are multiples of {self.multiple}, the cameras are "
                f"{size[0]}x{size[1]}; camera.resize() them"
            )


@dataclass(frozen=True, eq=False)
class Generated:
    """What a generator returns where it has more to give than colours.

    rgb: Frames, as its spec says.
    depth: z-depth ``[T, H, W]`` of the same frames in world units, 0 = none, or None.
    state: What it wants back with the next chunk: latents, a scan's state, a cache.
    latents: Of each frame, what its autoencoder made of it, floats of any shape (``[T, …]`` or T tensors, None where one has
        none), or None; they are stored with the frames.
    """

    rgb: Tensor
    depth: Float[Tensor, "t h w"] | None = None
    state: Any = None
    latents: Tensor | Sequence[Tensor | None] | None = None


def spec_of(generator: Any) -> GeneratorSpec:
    """What a generator says about itself in ``.spec``; the default where it says nothing."""
    spec = getattr(generator, "spec", None)
    return GeneratorSpec() if spec is None else spec


def run_generator(
    generator: Any,
    conditioning: Any,
    cameras: Camera,
    *,
    echoed: int = 0,
    seed: int = 0,
    state: Any = None,
    callback: Callable[[int, int, Tensor], Tensor | None] | None = None,
) -> Generated:
    """Call a generator as its spec says, check what it returns, and bring that to ``[T, H, W, 3]`` in [0, 1].

    Args:
        generator: Any :class:`spmem.protocols.Generator`.
        conditioning: What its ``condition`` returned.
        cameras: ``[T]``, a number that it can make.
        echoed: Frames at the beginning that repeat older ones, and are dropped.
        seed: For it.
        state: What it returned with the chunk before; only given to those that want it.
        callback: ``callback(step, steps, latents)``, at each step of denoising, returns latents to go on with or
            None; only given to those that call it.

    Raises:
        FrameError: Another shape, kind or range of numbers than wanted.
    """
    spec, more = spec_of(generator), {}
    if spec.state:
        more["state"] = state
    if spec.callback:
        more["callback"] = callback
    made = generator.generate(conditioning, cameras, seed=seed, **more)
    if not isinstance(made, Generated):
        made = Generated(made)
    who = name_of(getattr(generator, "function", generator))
    rgb = _frames(made.rgb, spec, [echoed + len(cameras), cameras.height, cameras.width, 3], who)
    depth = made.depth
    if depth is not None:
        wanted = [echoed + len(cameras), cameras.height, cameras.width]
        depth = checked_depth(depth, wanted, rgb.device, f"generator {who}")[echoed:]
    latents = made.latents
    if latents is not None:
        if len(latents) != echoed + len(cameras):
            raise FrameError(
                f"generator {who} returned {len(latents)} latents, wanted one for each of {echoed + len(cameras)} frames"
            )
        latents = latents[echoed:]
    return Generated(rgb[echoed:], depth, made.state, latents)


def _frames(rgb: Any, spec: GeneratorSpec, wanted: list[int], who: str) -> Tensor:
    if not isinstance(rgb, Tensor) or not rgb.is_floating_point():
        kind = rgb.dtype if isinstance(rgb, Tensor) else type(rgb).__name__
        low, high = spec.value_range
        raise FrameError(
            f"generator {who} returned {kind}; wanted a float tensor {wanted} in [{low:g}, {high:g}]"
        )
    if spec.layout != "THWC" and rgb.ndim == 4:
        rgb = rgb.movedim(spec.layout.index("C"), -1)
    if list(rgb.shape) != wanted:
        hint = ""
        if rgb.ndim == 4 and 3 in rgb.shape[1:3]:
            hint = "; move the channels last"
        raise FrameError(f"generator {who} returned {list(rgb.shape)}, wanted {wanted}{hint}")
    low, high = spec.value_range
    made: Tensor = rgb.detach()
    made = made if (low, high) == (0.0, 1.0) else (made.float() - low) / (high - low)
    least, most = torch.stack(torch.aminmax(made)).tolist() if made.numel() else (0.0, 1.0)
    if not (least >= -OVER and most <= 1 + OVER):  # NaN fails
        scale = high - low
        raise FrameError(
            f"generator {who} returned colours from {low + scale * least:g} to {low + scale * most:g}, wanted "
            f"[{low:g}, {high:g}] (a little more is clamped): GeneratorSpec(value_range=(0, 255)) or (-1, 1) declares "
            "what the model returns"
        )
    return made.clamp(0, 1)


FrameFunction = Callable[..., Tensor | Generated]


class FunctionGenerator:
    """A generator out of a function; :func:`from_function` makes it."""

    def __init__(self, function: FrameFunction, spec: GeneratorSpec) -> None:
        self.function, self.spec = function, spec
        named = _parameters(function)
        anything = any(one.kind is one.VAR_KEYWORD for one in named)
        names = {one.name for one in named}
        self._takes = {name for name in _WORDS if anything or name in names}

    def condition(
        self, context: Retrieval, prompt: str | None = None
    ) -> tuple[Retrieval, str | None]:
        """Both as they are."""
        return context, prompt

    def generate(
        self,
        conditioning: tuple[Retrieval, str | None],
        cameras: Camera,
        *,
        seed: int = 0,
        **more: Any,
    ) -> Tensor | Generated:
        """What the function returns."""
        context, prompt = conditioning
        history: Sequence[Frame] = context.recent
        named = {"prompt": prompt, "seed": seed, **more}
        kept = {name: value for name, value in named.items() if name in self._takes}
        return self.function(history, cameras, context, **kept)


def from_function(function: FrameFunction, spec: GeneratorSpec | None = None) -> FunctionGenerator:
    """A generator out of a plain function ``f(history, cameras, context) -> frames``.

    Args:
        function: Takes the last frames (a tuple of :class:`spmem.Frame`, oldest first), the cameras to make, and all
            that memory says (:class:`spmem.Retrieval`); returns frames, or :class:`Generated`. It is also given
            ``prompt``, ``seed``, ``state`` and ``callback`` where it has parameters of these names (the last two where
            the spec says so).
        spec: What it takes and gives; None: frames ``[T, H, W, 3]`` in [0, 1], of any number and size.

    Raises:
        InputError: No function, or one that does not take three arguments.

    Example:
        >>> import torch, spmem
        >>> grey = spmem.from_function(
        ...     lambda history, cameras, context: torch.full((len(cameras), cameras.height, cameras.width, 3), 0.5)
        ... )
    """
    return FunctionGenerator(function, GeneratorSpec() if spec is None else spec)


def _parameters(function: FrameFunction) -> list[inspect.Parameter]:
    """The parameters of a function that takes history, cameras and context. Raises InputError for others."""
    if not callable(function):
        raise InputError(f"from_function takes a function, got {type(function).__name__}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # of a compiled function
        return []
    words = {name: None for name in _WORDS if name in signature.parameters}
    try:
        signature.bind(None, None, None, **words)
    except TypeError as error:
        raise InputError(
            f"from_function takes f(history, cameras, context), and {name_of(function)}{signature} is called otherwise "
            f"({error})"
        ) from None
    return list(signature.parameters.values())


_WORDS = ("prompt", "seed", "state", "callback")
"""What a function is also given, if it has parameters of these names."""


def retrieve_for(
    retrieve: Callable[[Camera], Retrieval], cameras: Camera, spec: GeneratorSpec
) -> tuple[Retrieval, int]:
    """What memory says about cameras ``[T]``, made up by the last one to a number that the generator can make.

    Returns:
        The retrieval, and how many frames the generator is going to echo.
    """
    context = retrieve(cameras)
    echoed = spec.echoes(len(context.recent))
    count = spec.frames.fit(echoed + len(cameras)) - echoed
    if count > len(cameras):
        rows = torch.arange(count, device=cameras.device).clamp(max=len(cameras) - 1)
        context = retrieve(cameras[rows])
    return context, echoed
