"""Does a generator keep a place as it was? Paired controls: the same journeys, with parts of memory left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from spmem.bench.journeys import CHUNK, FAMILIES, Journey, journey
from spmem.bench.report import aim, mean_and_error
from spmem.config import MemoryConfig
from spmem.integrations.readers import track
from spmem.integrations.reference.generator import FORMS, ReferenceGenerator
from spmem.opening import open as open_memory
from spmem.rollout import Chunk, rollout
from spmem.types import Retrieval

FULL, NONE, WRONG = "full memory", "none", "wrong world's memory"
CONTROLS: dict[str, tuple[str, ...]] = {
    FULL: FORMS,
    "projection only": ("projection", "recent"),
    "references only": ("references", "recent"),
    "warped pixels only": ("warp", "recent"),
    "recent only": ("recent",),
    NONE: (),
    WRONG: FORMS,
}
"""What the generator is given of memory. The "only" ones see the recent frames too; "none" does not even see these."""
LEAST = 0.02
"""Share of a frame's pixels that a set must have to be measured."""


@dataclass(frozen=True)
class Scope:
    """How much is measured.

    families: Of journeys.
    seeds: Of held-out houses, as many for each family; no two families share one.
    chunks: Generated, of four frames.
    controls: Names of :data:`CONTROLS`.
    methods: Further rules of retrieval, each as one more control with full memory.
    rewrite: Whether memory takes all that is generated, as ``rollout(rewrite=True)``.
    """

    families: tuple[str, ...] = tuple(FAMILIES)
    seeds: tuple[int, ...] = tuple(range(8))
    chunks: int = 12
    controls: tuple[str, ...] = tuple(CONTROLS)
    methods: tuple[str, ...] = ()
    rewrite: bool = False

    @classmethod
    def quick(cls) -> Scope:
        """For a look."""
        return cls(("rotate-and-return",), (0, 1), 4, (FULL, "recent only", NONE))


@dataclass(frozen=True, eq=False)
class Played:
    """A journey as it was generated under a control."""

    journey: Journey
    control: str
    rgb: Float[Tensor, "a h w 3"]
    depth: Float[Tensor, "a h w"]
    memory_share: float
    """Of the time, what storing and retrieving took."""


def play(
    generator: ReferenceGenerator,
    trip: Journey,
    control: str,
    *,
    method: str | None = None,
    wrong: Journey | None = None,
    rewrite: bool = False,
) -> Played:
    """Give a memory the journey's first frames (another's, but for the last ones, if ``wrong``), and generate on.

    ``rewrite`` is that of :func:`spmem.rollout`.
    """
    watched = _Watched(generator)
    history = generator.model.config.history
    with open_memory(config=MemoryConfig(check_poses=False)) as memory:
        given = trip.frames[: trip.given]
        if wrong is not None:
            given = (*wrong.frames[: wrong.given], *given[-history:])
        for i, frame in enumerate(given):
            memory.store(frame.replace(time=i / 10))
        start = perf_counter()
        made: list[Chunk] = list(
            rollout(
                watched,
                memory,
                trip.ahead,
                chunk=CHUNK,
                seed=trip.seed,
                method=method,
                rewrite=rewrite,
            )
        )
        took = perf_counter() - start
    frames = [frame for chunk in made for frame in chunk.frames]
    depth = torch.stack([frame.depth for frame in frames if frame.depth is not None])
    share = 1 - watched.seconds / took
    return Played(trip, control, torch.stack([f.rgb_float() for f in frames]), depth, share)


class _Watched:
    """Counts the seconds in which the generator works."""

    def __init__(self, generator: ReferenceGenerator) -> None:
        self.generator, self.spec, self.seconds = generator, generator.spec, 0.0

    def condition(self, context: Retrieval, prompt: str | None = None) -> Any:
        start = perf_counter()
        made = self.generator.condition(context, prompt)
        self.seconds += perf_counter() - start
        return made

    def generate(self, conditioning: Any, cameras: Any, **more: Any) -> Any:
        start = perf_counter()
        made = self.generator.generate(conditioning, cameras, **more)
        self.seconds += perf_counter() - start
        return made


def measured(played: Played) -> list[dict[str, Any]]:
    """A row for each chunk: PSNR on all, revisited and beyond-context pixels, SSIM, and the median error of depth."""
    trip = played.journey
    truth = torch.stack([frame.rgb_float() for frame in trip.frames[trip.given :]])
    depth = torch.stack([f.depth for f in trip.frames[trip.given :] if f.depth is not None])
    rows = []
    for start in range(0, len(truth), CHUNK):
        some = slice(start, start + CHUNK)
        error = ((played.rgb[some] - truth[some]) ** 2).mean(-1)
        off = (played.depth[some] - depth[some]).abs() / depth[some].clamp(min=1e-6)
        rows.append(
            {
                "family": trip.family,
                "seed": trip.seed,
                "control": played.control,
                "chunk": start // CHUNK + 1,
                "psnr": psnr(error, torch.ones_like(trip.revisited[some])),
                "psnr_revisited": psnr(error, trip.revisited[some]),
                "psnr_beyond": psnr(error, trip.beyond[some]),
                "ssim": float(ssim(played.rgb[some], truth[some])),
                "depth_error": float(off[depth[some] > 0].median()),
                "memory_share": played.memory_share,
            }
        )
    return rows


def psnr(error: Float[Tensor, "t h w"], mask: Bool[Tensor, "t h w"]) -> float:
    """dB, the mean over frames that have at least :data:`LEAST` of their pixels in the mask; NaN where none has."""
    count = mask.flatten(1).sum(1)
    mean = (error * mask).flatten(1).sum(1) / count.clamp(min=1)
    told = (-10 * torch.log10(mean.clamp(min=1e-6)))[count >= LEAST * mask[0].numel()]
    return float(told.mean()) if len(told) else float("nan")


def ssim(a: Float[Tensor, "t h w 3"], b: Float[Tensor, "t h w 3"]) -> Float[Tensor, ""]:
    """Structural similarity, the mean over frames (Wang et al., 2004: Gaussian window of 11 pixels, sigma 1.5).

    Example:
        >>> a = torch.rand(1, 16, 16, 3)
        >>> float(ssim(a, a))
        1.0
    """
    x = torch.arange(11.0) - 5
    bell = torch.exp(-(x**2) / (2 * 1.5**2))
    bell = bell / bell.sum()
    window = (bell[:, None] * bell).expand(3, 1, 11, 11)

    def mean(t: Tensor) -> Tensor:
        return F.conv2d(t, window, groups=3)

    p, q = a.movedim(-1, 1), b.movedim(-1, 1)
    mp, mq = mean(p), mean(q)
    vp, vq, c = mean(p * p) - mp**2, mean(q * q) - mq**2, mean(p * q) - mp * mq
    top = (2 * mp * mq + 0.01**2) * (2 * c + 0.03**2)
    return (top / ((mp**2 + mq**2 + 0.01**2) * (vp + vq + 0.03**2))).mean()


def consistency(
    generator: ReferenceGenerator, scope: Scope | None = None
) -> tuple[list[dict[str, Any]], list[list[Played]]]:
    """Play every journey under every control.

    Returns:
        The rows of :func:`measured`, and what was played of the first two journeys of each family.
    """
    scope = scope or Scope()
    rows: list[dict[str, Any]] = []
    shown: list[list[Played]] = []
    apart = len(scope.families)  # no two families share a house
    houses = {
        family: [apart * seed + i for seed in scope.seeds]
        for i, family in enumerate(scope.families)
    }
    todo = [(family, seed) for family in scope.families for seed in houses[family]]
    for family, seed in track(todo, "Generating"):
        window = generator.model.config.history
        size = generator.model.config.size
        trip = journey(family, seed, chunks=scope.chunks, size=size, window=window)
        played = []
        for control in scope.controls:
            part = ReferenceGenerator(
                generator.model, steps=generator.steps, forms=CONTROLS[control]
            )
            wrong = None
            if control == WRONG:
                wrong = journey(family, seed + 500, chunks=1, size=size, window=window)
            played.append(play(part, trip, control, wrong=wrong, rewrite=scope.rewrite))
        for method in scope.methods:
            played.append(play(generator, trip, method, method=method, rewrite=scope.rewrite))
        rows += [row for one in played for row in measured(one)]
        if seed in houses[family][:2]:
            shown.append(played)
    return rows, shown


MEASURES = ("psnr", "psnr_revisited", "psnr_beyond", "ssim", "depth_error")


def per_world(
    rows: Sequence[dict[str, Any]], control: str, measure: str, **kept: Any
) -> dict[tuple[str, int], float]:
    """The mean over each world's chunks, without what could not be measured."""
    values: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if row["control"] == control and all(row[name] == value for name, value in kept.items()):
            values.setdefault((row["family"], row["seed"]), []).append(row[measure])
    means = {key: np.array(some)[~np.isnan(some)] for key, some in values.items()}
    return {key: float(some.mean()) for key, some in means.items() if len(some)}


def paired(
    rows: Sequence[dict[str, Any]], one: str, other: str, measure: str, **kept: Any
) -> list[float]:
    """By how much a control is better than another, in each world where both were measured."""
    a, b = (per_world(rows, control, measure, **kept) for control in (one, other))
    return [a[key] - b[key] for key in a if key in b]


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each family and control: means and standard errors over worlds; then what memory gains, in pairs."""
    told: list[dict[str, Any]] = []
    families = list(dict.fromkeys(row["family"] for row in rows))
    controls = list(dict.fromkeys(row["control"] for row in rows))
    for family in families:
        for control in controls:
            row = {"family": family, "memory": control}
            for measure in MEASURES:
                values = list(per_world(rows, control, measure, family=family).values())
                row[measure] = mean_and_error(values) if values else "-"
            told.append(row)
    for control in controls[1:]:
        row = {"full memory less": control}
        for measure in MEASURES[:3]:
            gain = paired(rows, controls[0], control, measure)
            row[f"{measure}, dB"] = mean_and_error(gain) if gain else "-"
            row[f"{measure}, worlds"] = str(len(gain))
        told.append(row)
    return told


def drift(rows: Sequence[dict[str, Any]], measure: str = "psnr_revisited") -> list[dict[str, Any]]:
    """A row for each control: the measure by chunk, means and standard errors over worlds."""
    chunks = sorted({row["chunk"] for row in rows})
    told = []
    for control in dict.fromkeys(row["control"] for row in rows):
        row = {f"{measure} by chunk": control}
        for chunk in chunks:
            values = list(per_world(rows, control, measure, chunk=chunk).values())
            row[str(chunk)] = mean_and_error(values) if values else "-"
        told.append(row)
    return told


def aims(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The figures that were asked for, as far as their controls were played."""
    played = {row["control"] for row in rows}
    told = []
    if {FULL, NONE} <= played:
        gain = paired(rows, FULL, NONE, "psnr_beyond")
        if gain:
            told.append(aim("full over none, beyond context", _mean(gain), 6.0, "dB", "higher"))
    for control in ("projection only", "references only", "warped pixels only"):
        if control in played and (gain := paired(rows, FULL, control, "psnr_revisited")):
            told.append(aim(f"full over {control}, revisited", _mean(gain), 0.0, "dB", "higher"))
    for control, better in ((FULL, "higher"), ("recent only", "lower")):
        early, late = (
            per_world(rows, control, "psnr_revisited", chunk=chunk)
            for chunk in (2, max(row["chunk"] for row in rows))
        )
        fell = [late[key] - early[key] for key in late if key in early]
        if fell:
            told.append(aim(f"last chunk less second, {control}", _mean(fell), -1.0, "dB", better))
    shares = [row["memory_share"] for row in rows if row["control"] == FULL]
    if shares:
        ratio = float(np.mean([share / (1 - share) for share in shares]))
        told.append(aim("store and retrieve, of a generation step", ratio, 0.1, "", "lower"))
    return told


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 3)
