"""What the retrieval benchmark found, as tables and aims. Errors are standard errors over scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spmem.evaluation import calibration
from spmem.evaluation.interventions import CORRECT
from spmem.evaluation.report import aim, mean_and_error
from spmem.evaluation.retrieval import KS, ORACLE, Findings

K = 4
OURS = "covisibility"
ALL = "all"
NEAR_ORACLE = 0.98
CALIBRATED = 0.03
"""Mean absolute error of the claimed coverage, at most."""

KEYS = ("scenes", "seed", "rule", "k")
MEASURES = (
    "coverage", "recall", "any hit", "redundancy", "worth", "best", "retention gap", "retrieval gap", "ms",
)  # fmt: skip
Row = dict[str, Any]
Scene = tuple[str, int]


def summary(found: Findings) -> list[Row]:
    """Everything, as the rows of a few tables."""
    return [
        *by_scenes(found.answers),
        *by_k(found.answers),
        *by_rule(found.answers),
        *loss_table(found.answers),
        *size_table(found.stores),
        *claim_table(found.answers),
        *change_table(found.changes),
        *calibration_table(found.claims),
    ]


def by_scenes(answers: Sequence[Row]) -> list[Row]:
    """Coverage@4 of every rule in every family; the last column pairs with ours over the same targets of each scene."""
    ours = per_scene(answers, OURS, "coverage", K)
    rows = []
    for rule in rule_names(answers):
        own = per_scene(answers, rule, "coverage", K)
        paired = [ours[scene] - own[scene] for scene in own if scene in ours]
        rows.append(
            {f"coverage@{K}": rule}
            | {name: mean_and_error(part) for name, part in group_by_family(own).items()}
            | {f"{OURS} is ahead by": mean_and_error(paired) if paired else "-"}
        )
    return rows


def by_k(answers: Sequence[Row]) -> list[Row]:
    """Coverage over all scenes, for each number of keyframes."""
    return [
        {"coverage, all scenes": rule}
        | {
            f"@{k}": mean_and_error(list(per_scene(answers, rule, "coverage", k).values()))
            for k in KS
        }
        for rule in rule_names(answers)
    ]


def by_rule(answers: Sequence[Row]) -> list[Row]:
    """All measures but coverage over all scenes."""
    rows = []
    for rule in rule_names(answers):

        def mean(name: str, k: int, rule: str = rule) -> str:
            return mean_and_error(list(per_scene(answers, rule, name, k).values()))

        times = [row["ms"] for row in answers if row["rule"] == rule and row["k"] == K]
        rows.append(
            {"all scenes": rule}
            | {f"recall@{k}": mean("recall", k) for k in KS}
            | {f"any hit@{k}": mean("any hit", k) for k in (1, K)}
            | {f"redundancy@{K}": mean("redundancy", K)}
            | {f"worth@{K}, dB": mean("worth", K)}
            | {"retrieve ms": "-" if rule == ORACLE else f"{np.median(times):.1f}"}
        )
    return rows


def loss_table(answers: Sequence[Row]) -> list[Row]:
    """Where coverage@4 went, from the best of all frames down to our choice."""
    parts = {
        name: group_by_family(per_scene(answers, OURS, name, K))
        for name in ("best", "retention gap", "retrieval gap", "coverage")
    }
    return [
        {
            "scenes": scenes,
            "best four frames": mean_and_error(best),
            "retention gap": mean_and_error(parts["retention gap"][scenes]),
            "retrieval gap": mean_and_error(parts["retrieval gap"][scenes]),
            OURS: mean_and_error(parts["coverage"][scenes]),
        }
        for scenes, best in parts["best"].items()
    ]


def size_table(stores: Sequence[Row]) -> list[Row]:
    """Frames, keyframes and bytes, means over the scenes of a family."""
    rows = []
    for family in dict.fromkeys(row["scenes"] for row in stores):
        part = [row for row in stores if row["scenes"] == family]
        names = [name for name in part[0] if name not in ("scenes", "seed")]
        means = {name: float(np.mean([row[name] for row in part])) for name in names}
        rows.append(
            {"scenes": family, "of them": len(part)}
            | {name: f"{mean:.1f}".removesuffix(".0") for name, mean in means.items()}
        )
    return rows


def claim_table(answers: Sequence[Row]) -> list[Row]:
    """Shares of the targets' pixels with depth that memory claims and that frames saw; their difference."""
    each = [row for row in answers if (row["rule"], row["k"]) == (OURS, K)]
    each = [row | {"apart": abs(row["claimed"] - row["seen"])} for row in each]
    parts = {
        name: group_by_family(_mean_per_scene(each, name)) for name in ("claimed", "seen", "apart")
    }
    return [
        {"scenes": scenes} | {name: mean_and_error(part[scenes]) for name, part in parts.items()}
        for scenes in (parts["apart"] if each else ())
    ]


def change_table(changes: Sequence[Row]) -> list[Row]:
    """Coverage@4 of a few rules when memory is tampered with, and what it still claims to know.

    The last column pairs our rule with itself over the correct memory.
    """
    rows, order = [], rule_names([row for row in changes if row["memory"] == CORRECT])
    correct = _mean_per_scene(
        [row for row in changes if row["memory"] == CORRECT and row["rule"] == OURS]
    )
    for memory in dict.fromkeys(row["memory"] for row in changes):
        part = [row for row in changes if row["memory"] == memory]
        ours = _mean_per_scene([row for row in part if row["rule"] == OURS])
        paired = [correct[scene] - ours[scene] for scene in ours]
        rows.append(
            {"memory": memory}
            | {
                rule: mean_and_error(
                    list(_mean_per_scene([row for row in part if row["rule"] == rule]).values())
                )
                for rule in order
            }
            | {"claimed": mean_and_error(list(_mean_per_scene(part, "claimed").values()))}
            | {f"{OURS} loses": mean_and_error(paired) if paired else "-"}
        )
    return rows


def calibration_table(rows: Sequence[Row]) -> list[Row]:
    """How well the claimed coverage is calibrated, whole and by bins."""
    if not rows:
        return []
    whole = {
        name: value if isinstance(value, int) else round(value, 4)
        for name, value in calibration.summary(rows).items()
    }
    bins = [
        {
            "claimed coverage": row["bin"],
            "queries": row["queries"],
            "claimed, mean": round(row["coverage"], 3),
            "true, mean": round(row["seen"], 3),
        }
        for row in calibration.reliability(rows)
    ]
    return [whole, *bins]


def each_scene(answers: Sequence[Row]) -> list[Row]:
    """The measures of every rule and k in every scene, means over its targets: plain numbers, for other programs."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in answers:
        groups.setdefault((*(row[name] for name in KEYS),), []).append(row)
    return [
        dict(zip(KEYS, key, strict=True))
        | {"targets": len(part)}
        | {name: float(np.mean([row[name] for row in part])) for name in MEASURES}
        for key, part in groups.items()
    ]


def aims(found: Findings) -> list[Row]:
    """In each family: ours at least as good as the best other rule on coverage@4, and near the oracle. Calibration."""
    figures = []
    ours = group_by_family(per_scene(found.answers, OURS, "coverage", K))
    others = {
        rule: group_by_family(per_scene(found.answers, rule, "coverage", K))
        for rule in rule_names(found.answers)
        if rule != OURS
    }
    best = others.pop(ORACLE)
    for family, values in ours.items():
        if family == ALL:
            continue
        own = float(np.mean(values))
        means = {rule: float(np.mean(part[family])) for rule, part in others.items()}
        if means:
            rule = max(means, key=lambda name: means[name])
            name = f"{family}: coverage@4, beside {rule}"
            figures.append(aim(name, own, means[rule], "", "higher"))
        share = own / max(float(np.mean(best[family])), 1e-9)
        name = f"{family}: coverage@4, share of the oracle's"
        figures.append(aim(name, share, NEAR_ORACLE, "", "higher"))
    if found.claims:
        error = calibration.summary(found.claims)["mean absolute error"]
        name = "claimed coverage: mean absolute error"
        figures.append(aim(name, error, CALIBRATED, "", "lower"))
    # Whether an aim is met was decided before anything is rounded.
    return [
        row | {"value": round(row["value"], 5), "target": round(row["target"], 5)}
        for row in figures
    ]


def rule_names(rows: Sequence[Row]) -> list[str]:
    """Ours first, then by falling coverage@4, the oracle last."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row.get("k", K) == K:
            values.setdefault(row["rule"], []).append(row["coverage"])
    return sorted(
        values, key=lambda name: (name == ORACLE, name != OURS, -float(np.mean(values[name])))
    )


def per_scene(answers: Sequence[Row], rule: str, name: str, k: int) -> dict[Scene, float]:
    """The mean of a measure over each scene's targets."""
    return _mean_per_scene([row for row in answers if row["rule"] == rule and row["k"] == k], name)


def group_by_family(scenes: dict[Scene, float]) -> dict[str, list[float]]:
    """Scenes by family, then all of them."""
    groups: dict[str, list[float]] = {}
    for (family, _), value in scenes.items():
        groups.setdefault(family, []).append(value)
    return groups | {ALL: list(scenes.values())}


def _mean_per_scene(rows: Sequence[Row], name: str = "coverage") -> dict[Scene, float]:
    groups: dict[Scene, list[float]] = {}
    for row in rows:
        groups.setdefault((row["scenes"], row["seed"]), []).append(row[name])
    return {scene: float(np.mean(values)) for scene, values in groups.items()}
