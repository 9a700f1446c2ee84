"""Does a generator keep a place as it was? Paired controls: the same journeys, with parts of memory left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spmem.config import MemoryConfig, RetrievalConfig
from spmem.evaluation.fidelity import ms_ssim, psnr, ssim
from spmem.evaluation.journeys import CHUNK, FAMILIES, Journey, journey
from spmem.evaluation.lpips import Lpips, load
from spmem.evaluation.matching import Matcher
from spmem.integrations.reference.generator import FORMS, ReferenceGenerator
from spmem.opening import open as open_memory
from spmem.progress import track
from spmem.registry import require_known
from spmem.retrieval.rules import METHODS, retriever
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
DEFAULT, RULE = RetrievalConfig().method, "rule "
"""What full memory retrieves by; and what stands before another rule's name where it is a control."""
FOUND, MASKED = "what moves is found", "what moves is masked"
AMONG_MOVERS = (FULL, FOUND, MASKED, "recent only", NONE)
"""Played where things move: beside full memory, which takes all that it is given, one that leaves out what the
segmenter ``depth-change`` calls moving, and one that leaves out exactly what moves in the given frames."""

FEW = 0.005
"""Share of a frame's pixels that must be vacated to be measured: what moves is small."""


@dataclass(frozen=True)
class Scope:
    """How much is measured.

    families: Families of journeys.
    seeds: Seeds of held-out houses, as many for each family; no two families share one.
    chunks: Generated, of four frames.
    controls: Names of :data:`CONTROLS`, and of :data:`AMONG_MOVERS` where things move.
    rules: Rules of retrieval, each as one more control with full memory.
    moving: Things that move in each house.
    rewrite: Whether memory takes all that is generated, as ``rollout(rewrite=True)``.
    matches: Whether keypoints are matched (needs OpenCV).
    lpips: Files of weights; none, and LPIPS is not measured.
    """

    families: tuple[str, ...] = tuple(FAMILIES)
    seeds: tuple[int, ...] = tuple(range(8))
    chunks: int = 12
    controls: tuple[str, ...] = tuple(CONTROLS)
    rules: tuple[str, ...] = ()
    moving: int = 0
    rewrite: bool = False
    matches: bool = False
    lpips: tuple[Path, ...] = ()

    @classmethod
    def quick(cls) -> Scope:
        """For a look."""
        return cls(("rotate-and-return",), (0, 1), 4, (FULL, "recent only", NONE))

    def with_families(self, names: str) -> Scope:
        """With these families alone: names with commas.

        Raises:
            UnknownNameError: A family that is not there.
        """
        families = tuple(filter(None, names.split(",")))
        for name in families:
            require_known("family", name, FAMILIES)
        return replace(self, families=families)

    def with_rules(self, names: str) -> Scope:
        """With rules in place of the other controls: names with commas, or ``all`` that a name is enough for.

        Raises:
            UnknownNameError: A rule that is not there.
        """
        rules = METHODS if names == "all" else tuple(filter(None, names.split(",")))
        for name in rules:
            retriever(name)
        return replace(self, controls=(FULL,), rules=tuple(r for r in rules if r != DEFAULT))

    def with_movers(self, moving: int) -> Scope:
        """With things that move, and the controls that belong to them."""
        controls = self.controls if self.rules else AMONG_MOVERS
        return replace(self, moving=moving, controls=controls)


@dataclass(frozen=True, eq=False)
class PlayedJourney:
    """A journey as it was generated under a control."""

    journey: Journey
    control: str
    rgb: Float[Tensor, "a h w 3"]
    depth: Float[Tensor, "a h w"]
    memory_share: float
    """Share of the time that storing and retrieving took."""


def play(
    generator: ReferenceGenerator,
    trip: Journey,
    control: str,
    *,
    method: str | None = None,
    wrong: Journey | None = None,
    rewrite: bool = False,
) -> PlayedJourney:
    """Give a memory the journey's first frames (another's, but for the last ones, if ``wrong``), and generate on.

    ``method`` and ``rewrite`` are those of :func:`spmem.rollout`.
    """
    watched = _TimedGenerator(generator)
    history = generator.model.config.history
    segmenter = "depth-change" if control == FOUND else None
    with open_memory(config=MemoryConfig(check_poses=False), segmenter=segmenter) as memory:
        given = trip.frames[: trip.given]
        if control == MASKED:
            still = (~trip.movers).float()
            given = tuple(f.replace(confidence=w) for f, w in zip(given, still, strict=False))
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
    return PlayedJourney(trip, control, torch.stack([f.rgb_float() for f in frames]), depth, share)


class _TimedGenerator:
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


def measure_play(
    played: PlayedJourney,
    *,
    structure: bool = False,
    matcher: Matcher | None = None,
    lpips: Lpips | None = None,
) -> list[dict[str, Any]]:
    """A row for each chunk.

    PSNR on all, revisited and beyond-context pixels, and the median error of depth; if things move, PSNR on static and
    vacated pixels; with ``structure`` SSIM and MS-SSIM (extra ``bench``); with a ``matcher`` the matches of a frame and
    the share of them that is right, on revisited pixels; with ``lpips`` LPIPS.
    """
    trip = played.journey
    truth = torch.stack([frame.rgb_float() for frame in trip.frames[trip.given :]])
    depth = torch.stack([f.depth for f in trip.frames[trip.given :] if f.depth is not None])
    rows = []
    for start in range(0, len(truth), CHUNK):
        some = slice(start, start + CHUNK)
        true, made = truth[some], played.rgb[some]
        error = ((made - true) ** 2).mean(-1)
        off = (played.depth[some] - depth[some]).abs() / depth[some].clamp(min=1e-6)
        row = {
            "family": trip.family,
            "seed": trip.seed,
            "control": played.control,
            "chunk": start // CHUNK + 1,
            "psnr": psnr(error, torch.ones_like(trip.revisited[some])),
            "psnr_revisited": psnr(error, trip.revisited[some]),
            "psnr_beyond": psnr(error, trip.beyond[some]),
            "depth_error": float(off[depth[some] > 0].median()),
            "memory_share": played.memory_share,
        }
        if trip.movers.any():
            row["psnr_static"] = psnr(error, trip.static[some])
            row["psnr_vacated"] = psnr(error, trip.vacated[some], least=FEW)
        if structure:
            row["ssim"] = float(ssim(made, true))
            row["ms_ssim"] = float(ms_ssim(made, true))
        if lpips is not None:
            row["lpips"] = float(lpips(made, true).mean())
        if matcher is not None:
            found, right = matcher(true, made, trip.revisited[some])
            row["matches"] = found / len(true)
            row["match_accuracy"] = right / found if found else float("nan")
        rows.append(row)
    return rows


def consistency(
    generator: ReferenceGenerator, scope: Scope | None = None
) -> tuple[list[dict[str, Any]], list[list[PlayedJourney]]]:
    """Play every journey under every control.

    Returns:
        The rows of :func:`measure_play`, and what was played of the first two journeys of each family.
    """
    scope = scope or Scope()
    matcher = Matcher() if scope.matches else None
    lpips = load(scope.lpips) if scope.lpips else None
    rows: list[dict[str, Any]] = []
    shown: list[list[PlayedJourney]] = []
    apart = len(scope.families)  # no two families share a house
    houses = {
        family: [apart * seed + i for seed in scope.seeds]
        for i, family in enumerate(scope.families)
    }
    todo = [(family, seed) for family in scope.families for seed in houses[family]]
    window, size = generator.model.config.history, generator.model.config.size
    ways = partial(journey, size=size, window=window, moving=scope.moving)
    for family, seed in track(todo, "Generating"):
        trip = ways(family, seed, chunks=scope.chunks)
        played = []
        for control in scope.controls:
            forms = CONTROLS.get(control, FORMS)
            part = ReferenceGenerator(generator.model, steps=generator.steps, forms=forms)
            wrong = ways(family, seed + 500, chunks=1) if control == WRONG else None
            played.append(play(part, trip, control, wrong=wrong, rewrite=scope.rewrite))
        for rule in scope.rules:
            name = RULE + rule
            played.append(play(generator, trip, name, method=rule, rewrite=scope.rewrite))
        looks = partial(measure_play, structure=True, matcher=matcher, lpips=lpips)
        rows += [row for one in played for row in looks(one)]
        if seed in houses[family][:2]:
            shown.append(played)
    return rows, shown
