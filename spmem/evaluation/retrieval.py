"""Which keyframes does each rule bring back, and what are they worth? Scenes, rules, answers; nothing is generated."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from spmem.evaluation import measures
from spmem.evaluation.calibration import calibration
from spmem.evaluation.episode import BenchEpisode, Size, Target
from spmem.evaluation.interventions import METHODS as TAMPERED
from spmem.evaluation.interventions import interventions
from spmem.evaluation.scenes import FAMILIES, recorded
from spmem.memory import SpatialMemory
from spmem.opening import open as open_memory
from spmem.progress import track
from spmem.retrieval.rules import METHODS

KS = (1, 4, 8, 20)
ORACLE = "oracle"
"""Greedy cover of the truth, over the keyframes: what a rule could reach at best."""
ELSEWHERE = 5000
"""Added to a seed for the world that the wrong memory is of."""


@dataclass(frozen=True)
class Scope:
    """How much is run.

    seeds: Scenes of each family.
    families: By name.
    methods: Rules by name, beside the oracle.
    changed: Scenes of each family, of which memory is tampered with.
    worlds: In which the claimed coverage is compared with the true one.
    size: Size of the scenes.
    """

    seeds: int = 5
    families: tuple[str, ...] = tuple(FAMILIES)
    methods: tuple[str, ...] = METHODS
    changed: int = 2
    worlds: int = 60
    size: Size = field(default_factory=Size)

    @staticmethod
    def quick() -> Scope:
        """For a look: one small scene of each family."""
        size = Size(frames=40, targets=3, width=96, height=72)
        return Scope(seeds=1, changed=1, worlds=2, size=size)


@dataclass(frozen=True, eq=False)
class Findings:
    """All that was measured, one row a fact.

    answers: One row for each target, rule and k: the scene (``scenes``, ``seed``), ``gap``, the measures, and the target's ``claimed``
        and ``seen``, see :meth:`spmem.evaluation.episode.Target.known`.
    stores: One row for each scene: frames, keyframes, bytes.
    changes: One row for each target of a tampered memory; see :func:`spmem.evaluation.interventions.interventions`.
    claims: See :func:`spmem.evaluation.calibration.calibration`.
    """

    answers: list[dict[str, Any]]
    stores: list[dict[str, Any]]
    changes: list[dict[str, Any]]
    claims: list[dict[str, Any]]


def retrieval(scope: Scope | None = None, walks: Iterable[Path] = ()) -> Findings:
    """Run everything; ``walks`` are recorded ones, each a scene of its own.

    Raises:
        InputError: A recorded walk without depth, or in which nothing comes back.
        FormatError: A recorded walk is not there, or broken.
    """
    scope = scope or Scope()
    walked = [recorded(path, scope.size) for path in walks]  # what is amiss with them shows at once
    answers, stores, changes = [], [], []
    tampered = [method for method in TAMPERED if method in scope.methods]
    for family in scope.families:
        for seed in track(range(scope.seeds), f"Scenes: {family}"):
            made = FAMILIES[family](seed, scope.size)
            found, stored = ask(made, scope.methods)
            answers += found
            stores.append(stored)
            if seed < scope.changed:
                other = FAMILIES[family](seed + ELSEWHERE, scope.size)
                changes += interventions(made, other, tampered)
    for made in track(walked, "Scenes: recorded") if walked else ():
        found, stored = ask(made, scope.methods)
        answers += found
        stores.append(stored)
    size = scope.size
    claims = calibration(
        track(range(scope.worlds), "Coverage, claimed and true"),
        stored=2 * size.frames // 3,
        width=size.width,
        height=size.height,
    )
    return Findings(answers, stores, changes, claims)


def ask(
    made: BenchEpisode, methods: Sequence[str] = METHODS, ks: Sequence[int] = KS
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Store an episode, on disk, and ask every rule for every target: rows of answers, and one of the store.

    The generator holds nothing (``given=()``). Rules take turns, target after target; each is asked once before its
    time counts.
    """
    answers: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.spmem"
        with open_memory(path) as memory:
            rows = store(memory, made)
            for target in made.targets[:1]:
                for method in methods:
                    memory.retrieve(target.cameras, k=ks[0], method=method, given=())
            for number, target in enumerate(made.targets):
                mask = memory.retrieve(target.cameras, k=0, given=()).projection.mask
                fact = {
                    "scenes": made.family,
                    "seed": made.seed,
                    "target": number,
                    "gap": target.gap,
                }
                fact |= dict(zip(("claimed", "seen"), target.known(mask), strict=True))
                colours = target.colours(made.sight, list(rows.values()))
                answers += [
                    fact | row
                    for row in _score_answers(memory, rows, target, colours, number, methods, ks)
                ]
            stored = _describe_storage(memory, made)
        on_disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return answers, stored | {"kB on disk a keyframe": on_disk / 1000 / stored["keyframes"]}


def store(memory: SpatialMemory, made: BenchEpisode) -> dict[int, int]:
    """Store all frames; which row of the episode each keyframe's id is."""
    ids = [memory.store(frame) for frame in made.frames]
    return {id: row for row, id in enumerate(ids) if id is not None}


def _score_answers(
    memory: SpatialMemory,
    rows: dict[int, int],
    target: Target,
    colours: measures.Colours,
    number: int,
    methods: Sequence[str],
    ks: Sequence[int],
) -> Iterable[dict[str, Any]]:
    kept = list(rows.values())
    most = measures.best(target.saw, max(ks))
    most_kept = measures.best(target.saw, max(ks), kept)
    for k in ks:
        best, best_kept = most[:k], most_kept[:k]  # a greedy choice begins with the smaller ones
        for method in methods:
            start = perf_counter()
            found = memory.retrieve(
                target.cameras, k=k, method=method, given=(), time=target.time, seed=number
            )
            seconds = perf_counter() - start
            chosen = [rows[keyframe.id] for keyframe in found.keyframes]
            yield {"rule": method, "k": k, "ms": 1000 * seconds} | judge_answer(
                target, chosen, k, kept, best, best_kept, colours
            )
        yield {"rule": ORACLE, "k": k, "ms": float("nan")} | judge_answer(
            target, best_kept, k, kept, best, best_kept, colours
        )


def judge_answer(
    target: Target,
    chosen: list[int],
    k: int,
    kept: list[int],
    best: list[int],
    best_kept: list[int],
    colours: measures.Colours,
) -> dict[str, float]:
    """All measures of one answer; arguments as those of :mod:`spmem.evaluation.measures`."""
    saw = target.saw
    lost = measures.gaps(saw, chosen, best, best_kept)
    return {
        "coverage": lost.chosen,
        "recall": measures.recall(saw, chosen, k, kept),
        "any hit": measures.any_hit(saw, chosen),
        "redundancy": measures.redundancy(saw, chosen),
        "worth": measures.worth(saw, chosen, colours, target.rgb),
        "best": lost.best,
        "retention gap": lost.retention,
        "retrieval gap": lost.retrieval,
    }


def _describe_storage(memory: SpatialMemory, made: BenchEpisode) -> dict[str, Any]:
    views = sum(column.nbytes for column in memory.views.arrays().values())
    keyframes = len(memory.keyframes)
    return {
        "scenes": made.family,
        "seed": made.seed,
        "frames": len(made.frames),
        "targets": len(made.targets),
        "keyframes": keyframes,
        "kB of views a keyframe": views / 1000 / keyframes,
    }
