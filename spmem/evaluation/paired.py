"""What the consistency benchmark found, as tables and aims: means over worlds, and differences in pairs of the same world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spmem.evaluation.consistency import DEFAULT, FULL, NONE, RULE
from spmem.evaluation.report import aim, mean_and_error

Row = dict[str, Any]
LOOKS = ("ssim", "ms_ssim", "lpips", "matches", "match_accuracy")
PIXELS: tuple[str, ...] = ("psnr", "psnr_revisited", "psnr_beyond", "psnr_static", "psnr_vacated")
GAINS = (*PIXELS, "ms_ssim", "lpips")
UNITS: dict[str, str] = dict.fromkeys(PIXELS, ", dB")


def per_world(
    rows: Sequence[Row], control: str, measure: str, **kept: Any
) -> dict[tuple[str, int], float]:
    """The mean over each world's chunks, without what could not be measured."""
    values: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if row["control"] == control and all(row[name] == value for name, value in kept.items()):
            values.setdefault((row["family"], row["seed"]), []).append(row.get(measure, np.nan))
    means = {key: np.array(some)[~np.isnan(some)] for key, some in values.items()}
    return {key: float(some.mean()) for key, some in means.items() if len(some)}


def paired(rows: Sequence[Row], one: str, other: str, measure: str, **kept: Any) -> list[float]:
    """By how much a control is better than another, in each world where both were measured."""
    a, b = (per_world(rows, control, measure, **kept) for control in (one, other))
    return [a[key] - b[key] for key in a if key in b]


def summary(rows: Sequence[Row]) -> list[Row]:
    """Means and standard errors over worlds, of rules (:func:`by_rule`) or of controls.

    Of controls, a row for each family; how pictures look, over all worlds; and what full memory gains, in pairs. Where a
    measure says nothing of some worlds, the number of the others stands behind it.
    """
    controls, families = _distinct_values(rows, "control"), _distinct_values(rows, "family")
    if any(control.startswith(RULE) for control in controls):
        return by_rule(rows)
    numbers = _present_measures(rows, (*PIXELS, "depth_error"))
    table: list[Row] = []
    for family in families:
        for control in controls:
            means = _format_means(rows, control, numbers, family=family)
            table.append({"family": family, "memory": control} | means)
    for control in controls:
        table.append(
            {"all worlds": control} | _format_means(rows, control, _present_measures(rows, LOOKS))
        )
    for control in controls[1:]:
        worlds = len(paired(rows, FULL, control, "psnr"))
        gains = {
            measure + UNITS.get(measure, ""): _format_gain(rows, control, measure, worlds)
            for measure in _present_measures(rows, GAINS)
        }
        table.append({f"{FULL} less": control} | gains | {"worlds": str(worlds)})
    return table


def by_rule(rows: Sequence[Row]) -> list[Row]:
    """A row for each rule, the best first: means over all worlds, and by how much the default is better, in pairs."""
    measures = _present_measures(rows, (*PIXELS[1:], *LOOKS[1:]))
    means_by_control = {
        c: _format_means(rows, c, measures) for c in _distinct_values(rows, "control")
    }
    order = sorted(
        means_by_control, key=lambda c: -np.mean(list(per_world(rows, c, PIXELS[1]).values()))
    )
    worlds = len(per_world(rows, FULL, PIXELS[1]))
    return [
        {"rule": DEFAULT if control == FULL else control.removeprefix(RULE)}
        | means_by_control[control]
        | {
            f"{DEFAULT} less this, {measure.removeprefix('psnr_')}": ""
            if control == FULL
            else _format_gain(rows, control, measure, worlds)
            for measure in PIXELS[1:3]
        }
        for control in order
    ]


def drift(rows: Sequence[Row], measure: str = "psnr_revisited") -> list[Row]:
    """A row for each control: the measure by chunk, means and standard errors over worlds."""
    chunks = sorted({row["chunk"] for row in rows})
    table = []
    for control in _distinct_values(rows, "control"):
        row = {f"{measure} by chunk": control}
        for chunk in chunks:
            row[str(chunk)] = _format_means(rows, control, (measure,), chunk=chunk)[measure]
        table.append(row)
    return table


def aims(rows: Sequence[Row]) -> list[Row]:
    """The figures that were asked for, as far as their controls were played."""
    played = {row["control"] for row in rows}
    figures = []
    if {FULL, NONE} <= played:
        gain = paired(rows, FULL, NONE, "psnr_beyond")
        if gain:
            figures.append(
                aim("full over none, beyond context", _rounded_mean(gain), 6.0, "dB", "higher")
            )
    for control in ("projection only", "references only", "warped pixels only"):
        if control in played and (gain := paired(rows, FULL, control, "psnr_revisited")):
            figures.append(
                aim(f"full over {control}, revisited", _rounded_mean(gain), 0.0, "dB", "higher")
            )
    for control, better in ((FULL, "higher"), ("recent only", "lower")):
        early, late = (
            per_world(rows, control, "psnr_revisited", chunk=chunk)
            for chunk in (2, max(row["chunk"] for row in rows))
        )
        fell = [late[key] - early[key] for key in late if key in early]
        if fell:
            figures.append(
                aim(f"last chunk less second, {control}", _rounded_mean(fell), -1.0, "dB", better)
            )
    shares = [row["memory_share"] for row in rows if row["control"] == FULL]
    if shares:
        ratio = float(np.mean([share / (1 - share) for share in shares]))
        figures.append(aim("store and retrieve, of a generation step", ratio, 0.1, "", "lower"))
    return figures


def _format_means(rows: Sequence[Row], control: str, measures: Sequence[str], **kept: Any) -> Row:
    values = {m: list(per_world(rows, control, m, **kept).values()) for m in measures}
    return {m: mean_and_error(some) if some else "-" for m, some in values.items()}


def _distinct_values(rows: Sequence[Row], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows))


def _present_measures(rows: Sequence[Row], measures: Sequence[str]) -> list[str]:
    """Those that some rows have."""
    return [measure for measure in measures if any(measure in row for row in rows)]


def _format_gain(rows: Sequence[Row], control: str, measure: str, worlds: int) -> str:
    gain = paired(rows, FULL, control, measure)
    fewer = f" ({len(gain)})" if len(gain) < worlds else ""
    return mean_and_error(gain) + fewer if gain else "-"


def _rounded_mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 3)
