"""``spmem info``: what a memory holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from spmem.cli.shell import Json, Memory, format_bytes, print_table
from spmem.evaluation.printing import print_json

if TYPE_CHECKING:
    from rich.text import Text

    from spmem.memory import SpatialMemory


def info(memory: Memory, as_json: Json = False) -> None:
    """Show what a memory holds: keyframes, surfels, times, extent, bytes, snapshots, configuration."""
    from spmem.opening import open as open_memory

    with open_memory(memory, mode="r") as opened:
        summary = _describe_contents(opened) | _describe_store(memory)
        if as_json:
            print_json({"memory": str(memory)} | summary)
            return
        _print_summary(memory, summary, _draw_plan_text(opened))


def _describe_contents(memory: SpatialMemory) -> dict[str, Any]:
    surfels = memory.geometry.surfels()
    times = memory.views.times
    box = None
    if len(surfels):
        box = [surfels.position.amin(0).tolist(), surfels.position.amax(0).tolist()]
    return {
        "keyframes": len(memory.keyframes),
        "surfels": len(surfels),
        "time": [float(times.min()), float(times.max())] if len(times) else None,
        "extent": box,
        "voxel": getattr(memory.geometry, "voxel", None),
        "snapshots": [
            {"id": s.id, "message": s.message, "time": s.time, "keyframes": s.keyframes}
            for s in memory.snapshots()
        ],
        "config": memory.config.to_json(),
    }


def _describe_store(memory: str) -> dict[str, Any]:
    """Schema, writer, and bytes by part, if the store reports them."""
    from contextlib import closing

    from spmem.opening import open_store
    from spmem.protocols import DescribedStore

    with closing(open_store(memory, "r")) as store:
        if isinstance(store, DescribedStore):
            return store.describe()
    return {"schema": None, "version": None, "bytes": {"total": int(store.sizes().sum())}}


def _draw_plan_text(memory: SpatialMemory, width: int = 72) -> Text | None:
    """The memory from above, two pixels a character."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    from spmem.pictures import ground_plan

    if not len(memory.geometry):
        return None
    image = ground_plan(memory, width).image[::-1]
    text = Text(no_wrap=True)
    for y in range(0, len(image), 2):
        for x in range(image.shape[1]):
            pixels = image[y : y + 2, x]
            there = [Color.from_rgb(*p[:3].tolist()) if p[3] else None for p in pixels]
            upper, lower = there[0], there[1] if len(there) > 1 else None
            if upper is None and lower is None:
                text.append(" ")
            elif upper is None:
                text.append("▄", Style(color=lower))
            else:
                text.append("▀", Style(color=upper, bgcolor=lower))
        text.append("\n")
    return text


def _print_summary(path: str, summary: dict[str, Any], picture: Text | None) -> None:
    from rich.console import Console

    rows = {"keyframes": str(summary["keyframes"]), "surfels": f"{summary['surfels']:,}"}
    if summary["time"]:
        first, last = summary["time"]
        rows["time"] = f"{first:.2f} s to {last:.2f} s"
    if summary["extent"]:
        low, high = summary["extent"]
        sides = " x ".join(f"{b - a:.3g}" for a, b in zip(low, high, strict=True))
        rows["extent"] = f"{sides} world units, from {_format_point(low)} to {_format_point(high)}"
    if summary["voxel"]:
        rows["voxel"] = f"{summary['voxel']:.4g} world units"
    parts = dict(summary["bytes"])
    rows["on disk"] = f"{format_bytes(parts.pop('total'))}: " + ", ".join(
        f"{name} {format_bytes(count)}" for name, count in parts.items()
    )
    rows["written by"] = f"spmem {summary['version']}, schema {summary['schema']}"
    rows["snapshots"] = "\n".join(
        f"{s['id']}  {_format_time(s['time'])}  {s['keyframes']} keyframes  {s['message']}"
        for s in summary["snapshots"][:5]
    )
    more = len(summary["snapshots"]) - 5
    rows["snapshots"] += f"\nand {more} older" if more > 0 else ""
    rows["configuration"] = "\n".join(_format_config(summary["config"]))
    print_table(str(path), rows)
    console = Console()
    if picture is not None and console.color_system and console.width >= 72:
        console.print(picture)


def _format_point(values: list[float]) -> str:
    return "(" + ", ".join(f"{v:.2f}" for v in values) + ")"


def _format_time(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _format_config(config: dict[str, Any]) -> list[str]:
    """One line a part."""
    lines = [", ".join(f"{k}={v}" for k, v in config.items() if not isinstance(v, dict))]
    for part, values in config.items():
        if isinstance(values, dict):
            lines.append(f"{part}: " + ", ".join(f"{k}={v}" for k, v in values.items()))
    return lines
