"""Configuration: nested frozen dataclasses, stored with the memory as JSON."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any, get_args, get_type_hints

from spmem.errors import InputError
from spmem.limits import FARTHEST, FINEST

_MOST_RECENT, _LARGEST_DIM = 10_000, 1 << 16
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {f"{unit}i": 1 << 10 * power for power, unit in enumerate("kmgt", start=1)}


def text_bytes(text: object, wanted: str = "wanted are") -> int:
    """The bytes that a text like ``"2 GB"`` tells. Raises InputError, which begins with what is ``wanted``.

    >>> text_bytes("1.5 GB"), text_bytes("512 MiB")
    (1500000000, 536870912)
    """
    found = re.fullmatch(r"\s*([0-9]+\.?[0-9]*)\s*([kmgt]i?)?b?\s*", str(text).lower())
    size = int(float(found[1]) * _UNITS[found[2] or ""]) if isinstance(text, str) and found else 0
    if size <= 0:
        raise InputError(f"{wanted} bytes as text like '2 GB' or '512 MiB'; got {text!r}")
    return size


def budget_bytes(budget: int | str) -> int | None:
    """The bytes of a budget like ``"2 GB"``; None where it is a number of keyframes. Raises InputError."""
    if isinstance(budget, int) and not isinstance(budget, bool) and budget > 0:
        return None
    return text_bytes(budget, "a budget is a number of keyframes, or")


@dataclass(frozen=True)
class FusionConfig:
    """How depth becomes surfels. Lengths are relative: to depth, or to the voxel.

    voxel: Edge of the voxels in world units, one surfel a voxel and orientation; None takes ``voxel_pixels`` pixels
        at the first frame's median depth.
    voxel_pixels: See ``voxel``.
    edge: A depth step of more than this share of the depth is an edge; pixels beside it are left out.
    grazing: Cosine of the viewing angle below which a pixel is left out.
    merge: A pixel within this share of the depth from the rendered map is the same surface.
    max_confidence: Where the running mean's weight stops growing, so that the map stays able to change.
    """

    voxel: float | None = None
    voxel_pixels: float = 2.0
    edge: float = 0.04
    grazing: float = 0.15
    merge: float = 0.03
    max_confidence: float = 64.0

    def __post_init__(self) -> None:
        for name in ("voxel_pixels", "edge", "merge", "max_confidence"):
            if not getattr(self, name) > 0:
                raise InputError(f"fusion.{name} must be > 0, got {getattr(self, name)}")
        if self.voxel is not None and not FINEST <= self.voxel <= FARTHEST:
            raise InputError(
                f"fusion.voxel must be {FINEST:g} to {FARTHEST:g} world units, or None, got {self.voxel}"
            )
        if not 0 <= self.grazing < 1:
            raise InputError(f"fusion.grazing is a cosine in [0, 1), got {self.grazing}")


@dataclass(frozen=True)
class KeyframeConfig:
    """When a frame becomes a keyframe, and how it is kept.

    novelty: A frame is kept when this share of its pixels shows what no keyframe shows; 0 keeps every frame. At 0.1
        a half and an eighth of the frames of two real walks were kept, and some keyframe saw 98.6 and 99.7 % of what
        all the frames had seen (``benchmarks/novelty.py``).
    commit_every: Keyframes between automatic commits; 0 leaves it to you.
    quality: Of the stored colour, 1..100.
    durability: What a commit survives: a killed ``process``, or a loss of ``power`` too (each commit waits for the disk).
    cache: Bytes of decoded keyframes that a memory on disk keeps in RAM, those that were read again last, as text
        (``"64 MB"``: some thirty of 640x480); None keeps none.
    """

    novelty: float = 0.1
    commit_every: int = 16
    quality: int = 95
    durability: str = "process"
    cache: str | None = "64 MB"

    @property
    def cache_bytes(self) -> int:
        """``cache`` as a number."""
        return 0 if self.cache is None else text_bytes(self.cache, "keyframes.cache is None, or")

    def __post_init__(self) -> None:
        self.cache_bytes  # noqa: B018 - refuses what is none
        if not 0 <= self.novelty <= 1:
            raise InputError(f"keyframes.novelty is a share in 0..1, got {self.novelty}")
        if self.commit_every < 0:
            raise InputError(f"keyframes.commit_every must be >= 0, got {self.commit_every}")
        if self.durability not in ("process", "power"):
            raise InputError(
                f"keyframes.durability is 'process' or 'power', got {self.durability!r}"
            )
        if not 1 <= self.quality <= 100:
            raise InputError(f"keyframes.quality must be in 1..100, got {self.quality}")


@dataclass(frozen=True)
class RetentionConfig:
    """How much a memory keeps.

    budget: A number of keyframes, or bytes of keyframes as text (``"2 GB"``, ``"512 MiB"``); None keeps all.
    policy: What goes first: ``coverage`` (what others saw too), ``recency`` (the oldest), ``uniform`` (where keyframes
        are dense in time), ``reservoir`` (at random, fair to all), or an installed package's.
    """

    budget: int | str | None = None
    policy: str = "coverage"

    def __post_init__(self) -> None:
        if self.budget is not None:
            budget_bytes(self.budget)


@dataclass(frozen=True)
class RetrievalConfig:
    """How keyframes are found.

    method: The rule used where ``retrieve`` names none.
    index: What finds candidates: ``voxels`` (inverted lists, exact), or vectors in ``faiss``, ``flat`` (torch), or an
        installed package's.
    candidates: Keyframes that the index hands to exact scoring.
    dim: Length of the covisibility descriptor, where the index holds vectors.
    tolerance: Share of the depth within which a point is the one that a keyframe saw.
    reach: What memory renders is not believed (its mask is False) behind more space that no keyframe saw to be empty than
        this, in median depths of the keyframes (less beside surfaces that it sees from behind); None believes everything.
    """

    method: str = "covisibility"
    index: str = "voxels"
    candidates: int = 128
    dim: int = 256
    tolerance: float = 0.04
    reach: float | None = 1.0

    def __post_init__(self) -> None:
        if (
            self.candidates < 1
            or not 8 <= self.dim <= _LARGEST_DIM
            or not min(self.tolerance, self.reach or 1) > 0
        ):
            raise InputError(
                f"retrieval: candidates >= 1, dim 8 to {_LARGEST_DIM:,}, tolerance > 0 and reach > 0 are wanted"
            )


@dataclass(frozen=True)
class MemoryConfig:
    """All of a memory. ``geometry`` names the spatial store; ``recent`` is the length of working memory in frames.

    renderer: What draws the map for ``retrieve``: ``discs``, ``gsplat``, ``pytorch3d``, or an installed package's.
    check_poses: Compare the first frames with one another: refuse poses of another convention, warn of depth in another
        scale than the poses.
    """

    geometry: str = "surfels"
    renderer: str = "discs"
    recent: int = 4
    check_poses: bool = True
    fusion: FusionConfig = field(default_factory=FusionConfig)
    keyframes: KeyframeConfig = field(default_factory=KeyframeConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.recent <= _MOST_RECENT:
            raise InputError(f"recent must be 0 to {_MOST_RECENT:,} frames, got {self.recent}")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> MemoryConfig:
        """Inverse of :meth:`to_json`. Raises InputError for keys or kinds of values that this version does not know."""
        parts = {
            "fusion": FusionConfig,
            "keyframes": KeyframeConfig,
            "retrieval": RetrievalConfig,
            "retention": RetentionConfig,
        }
        nested = {
            name: part(**_fitting(part, values[name], f"{name}."))
            for name, part in parts.items()
            if name in values
        }
        return cls(**_fitting(cls, {**values, **nested}))


def _fitting(kind: type, values: object, prefix: str = "") -> dict[str, Any]:
    """The values, where they are of the kinds that a configuration's fields have."""
    if not isinstance(values, dict):
        raise InputError(
            f"stored configuration: {prefix or 'it'} holds {values!r}, wanted names and values"
        )
    kinds = get_type_hints(kind)
    for name, value in values.items():
        if name not in kinds:
            raise InputError(f"stored configuration has an unknown key {prefix}{name}")
        allowed = get_args(kinds[name]) or (kinds[name],)
        number = float in allowed and isinstance(value, int)  # JSON has no kinds of numbers
        fits = bool in allowed if isinstance(value, bool) else number or isinstance(value, allowed)
        if not fits:
            raise InputError(
                f"stored configuration: {prefix}{name} is {value!r}, wanted {kinds[name]}"
            )
    return values
