"""What the bundled generator's network is: its sizes, its backbone, and the forms of memory that it takes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from spmem.errors import InputError

COLOURS = 3
ATTENTIONS = ("sdpa", "flex", "xformers")
BACKBONES = ("attention", "state-space")


@dataclass(frozen=True)
class ModelConfig:
    """What the network is. Switches of memory can be off in a model; one that is on can still be left out of a call.

    size: Pixels of a side; frames are square.
    patch: Pixels of a token's side.
    history: Frames of a clip that are there already, at its beginning.
    chunk: Frames of a clip that are new.
    keyframes: References looked at, at most.
    width: Token width.
    layers: Layers of the main stream.
    heads: Attention heads.
    branch: Layers of the branch that reads projection and warped pixels.
    window: Frames that a frame attends to, itself included.
    backbone: ``attention``, or ``state-space``: a state-space scan over time in every layer, beside attention in the
        window.
    block: Patches of a side of the blocks that are scanned, of every second layer; twice that of the others.
    states: Numbers that a state-space head keeps for each of its channels.
    refine: Channels between the two convolutions that mend the seams of patches.
    depth: Predict depth beside colour.
    projection: Take the rendered scene, form (a).
    references: Take retrieved keyframes, form (b).
    recent: Take the last frames, form (c).
    warp: Take the keyframes' pixels and their coordinates, warped to the new cameras, form (d).
    attention: ``sdpa``; ``flex`` (flex_attention) and ``xformers`` are for CUDA.
    """

    size: int = 64
    patch: int = 8
    history: int = 2
    chunk: int = 4
    keyframes: int = 3
    width: int = 128
    layers: int = 4
    heads: int = 4
    branch: int = 1
    window: int = 6
    backbone: str = "attention"
    block: int = 4
    states: int = 16
    refine: int = 16
    depth: bool = True
    projection: bool = True
    references: bool = True
    recent: bool = True
    warp: bool = True
    attention: str = "sdpa"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not type(field.default):
                kind = type(field.default).__name__
                raise InputError(f"{field.name} must be of type {kind}, got {value!r}")
            if isinstance(value, int) and not 0 <= value < 1 << 31:
                raise InputError(f"{field.name} must be from 0 to 2,147,483,647, got {value}")
        for name, whole, part in (
            ("size", self.size, self.patch),
            ("width", self.width, self.heads),
            ("size / patch", self.grid, self.block),
        ):
            if part < 1 or whole < 1 or whole % part:
                raise InputError(f"{name} {whole} must be a multiple of {part}")
        for name, value, names in (
            ("backbone", self.backbone, BACKBONES),
            ("attention", self.attention, ATTENTIONS),
        ):
            if value not in names:
                raise InputError(f"{name} must be one of {', '.join(names)}, got {value!r}")

    @property
    def grid(self) -> int:
        """Patches of a frame's side."""
        return self.size // self.patch

    @property
    def channels(self) -> int:
        """Channels of a frame: colour, and depth if it is predicted."""
        return COLOURS + self.depth

    @property
    def frames(self) -> int:
        """Frames of a clip."""
        return self.history + self.chunk


NANO = ModelConfig()
SMALL = replace(
    NANO, size=128, history=4, window=8, width=512, layers=12, heads=8, branch=4, keyframes=4
)
BASE = replace(SMALL, size=256, patch=16, width=1024, layers=24, heads=16, branch=8)
SIZES = {"nano": NANO, "small": SMALL, "base": BASE}
