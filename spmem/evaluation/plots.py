"""The retrieval benchmark's pictures: coverage by scene and rule, what a long absence costs, how true claims are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spmem.evaluation import calibration
from spmem.evaluation.report import error_of_mean
from spmem.evaluation.retrieval import ORACLE
from spmem.evaluation.tables import ALL, OURS, K, group_by_family, per_scene, rule_names
from spmem.pictures.canvas import FAINT, PAPER, PATH, TEXT

GRID = "#e5e7eb"
OTHER = "#c3c9d2"
FIRST, BOUND = "#0f8a9d", "#6b7280"
LINES = {
    OURS: FIRST,
    "set-cover": "#e64980",
    "surfel-votes": "#f48434",
    "pose-nearest": "#9775fa",
    "fov-overlap": "#4dabf7",
    "recent": "#51cf66",
    "random": "#adb5bd",
}
"""Rules that are drawn as curves, where they were asked."""
GAPS = (0, 10, 25, 50, 100, 150, 100_000)
"""Edges of the bins, in frames."""


def bars(answers: Sequence[dict[str, Any]]) -> Figure:
    """Coverage@4 of every rule, a panel for each family; whiskers are standard errors over scenes."""
    names = rule_names(answers)[::-1]
    values = {rule: group_by_family(per_scene(answers, rule, "coverage", K)) for rule in names}
    families = [ALL, *(name for name in values[OURS] if name != ALL)]
    figure = Figure(figsize=(1.9 + 1.45 * len(families), 1.1 + 0.24 * len(names)), facecolor=PAPER)
    panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
    for family, axes in zip(families, panels, strict=True):
        means = [float(np.mean(values[rule].get(family, [np.nan]))) for rule in names]
        errors = [error_of_mean(values[rule].get(family, [])) for rule in names]
        colours = [{OURS: FIRST, ORACLE: BOUND}.get(rule, OTHER) for rule in names]
        axes.barh(names, means, color=colours, height=0.72)
        known = [i for i, error in enumerate(errors) if np.isfinite(error)]
        axes.errorbar(
            [means[i] for i in known], known, xerr=[errors[i] for i in known],
            fmt="none", ecolor=TEXT, elinewidth=0.9,
        )  # fmt: skip
        axes.axvline(means[names.index(OURS)], color=FIRST, linewidth=0.8, linestyle=":")
        axes.set_title(family.replace("_", " "), fontsize=8.5, color=TEXT)
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.set(xlim=(0, 1.04), xticks=(0, 0.5, 1), xticklabels=("0", ".5", "1"))
        _style_axes(axes, "x")
    title = f"Coverage@{K}: share of what comes back that the {K} chosen keyframes show (oracle: greedy on the truth)"
    figure.suptitle(title, fontsize=10, color=TEXT, x=0.01, ha="left")
    figure.tight_layout(rect=(0, 0, 1, 0.99), w_pad=0.6)
    return figure


def absence(answers: Sequence[dict[str, Any]]) -> Figure:
    """Coverage@4 and recall@4 against the frames since the place was last seen; errors over targets."""
    at_k = [row for row in answers if row["k"] == K]
    names = [name for name in LINES if any(row["rule"] == name for row in at_k)]
    figure = Figure(figsize=(9.5, 3.6), facecolor=PAPER)
    panels = figure.subplots(1, 2)
    for axes, measure in zip(panels, ("coverage", "recall"), strict=True):
        for offset, rule in enumerate(names):
            points: list[tuple[int, float, float]] = []
            for place, (low, high) in enumerate(pairwise(GAPS)):
                part = [
                    row[measure] for row in at_k if row["rule"] == rule and low < row["gap"] <= high
                ]
                if len(part) > 1:
                    points.append((place, float(np.mean(part)), error_of_mean(part)))
            x, y, error = np.array(points).reshape(-1, 3).T
            axes.errorbar(
                x + 0.03 * (offset - len(names) / 2), y, yerr=error, color=LINES[rule],
                marker="o", markersize=4, linewidth=2.2 if rule == OURS else 1.4, elinewidth=0.9,
                label=rule, zorder=3 if rule == OURS else 2,
            )  # fmt: skip
        axes.set_title(f"{measure}@{K}", fontsize=9.5, color=TEXT)
        axes.set(ylim=(0, 1.03))
        axes.set_xlabel("frames since the place was last seen", fontsize=8.5, color=FAINT)
        axes.set_xticks(range(len(GAPS) - 1), _gap_labels())
        _style_axes(axes, "y")
    panels[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    return figure


def reliability(claims: Sequence[dict[str, Any]]) -> Figure:
    """Claimed coverage against the true share: every query, and the means of bins."""
    figure = Figure(figsize=(5.2, 4.8), facecolor=PAPER)
    axes = figure.subplots()
    axes.plot((0, 1), (0, 1), color=FAINT, linewidth=0.9, linestyle=":")
    for where, colour in (("walked", PATH), ("other", "#f48434")):
        part = [row for row in claims if row["where"] == where]
        axes.scatter(
            [row["coverage"] for row in part], [row["seen"] for row in part],
            s=9, alpha=0.45, color=colour, linewidths=0,
            label="in rooms walked through" if where == "walked" else "in other rooms",
        )  # fmt: skip
    bins = calibration.reliability(claims)
    axes.plot(
        [row["coverage"] for row in bins], [row["seen"] for row in bins],
        color=TEXT, marker="o", markersize=5, linewidth=1.4, label="means of tenths",
    )  # fmt: skip
    errors = calibration.summary(claims)
    title = f"{errors['queries']} cameras in {errors['worlds']} houses: off by {errors['mean absolute error']:.3f} on average"
    axes.set_title(title, fontsize=9.5, color=TEXT)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xlabel("coverage that memory claims", fontsize=8.5, color=FAINT)
    axes.set_ylabel("share really seen before", fontsize=8.5, color=FAINT)
    legend = axes.legend(frameon=False, fontsize=8, loc="upper left")
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    _style_axes(axes, "both")
    figure.tight_layout()
    return figure


def _gap_labels() -> list[str]:
    inner = [f"{low + 1}-{high}" for low, high in pairwise(GAPS[:-1])]
    return [*inner, f"> {GAPS[-2]}"]


def _style_axes(axes: Axes, grid: Literal["x", "y", "both"]) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(labelsize=8, colors=TEXT, length=0)
    axes.grid(axis=grid, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
