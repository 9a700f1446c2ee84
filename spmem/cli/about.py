"""``spmem info``: what a memory holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from spmem.cli.shell import Json, Memory, show, size
from spmem.standard_output import print_json

if TYPE_CHECKING:
    from rich.text import Text

    from spmem.memory import SpatialMemory


def info(memory: Memory, as_json: Json = False) -> None:
    """Show what a memory holds: keyframes, surfels, times, extent, bytes, snapshots, configuration."""
    from spmem.opening import open as open_memory

    with open_memory(memory, mode="r") as opened:
        told = _contents(opened) | _stored(memory)
        if as_json:
            print_json({"memory": str(memory)} | told)
            return
        _show(memory, told, _picture(opened))


def _contents(memory: SpatialMemory) -> dict[str, Any]:
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


def _stored(memory: str) -> dict[str, Any]:
    """Schema, writer, and bytes by part; ``history`` is all but the latest state and what Icechunk keeps about it."""
    import zarr

    from spmem.stores.keyframes.zarr.location import place
    from spmem.stores.keyframes.zarr.repository import held, open_repository

    where = place(memory)
    session = open_repository(where, "r", lambda root: None).readonly_session("main")
    root = zarr.open_group(session.store, mode="r")
    mark: Any = root.attrs["spmem"]
    parts: dict[str, int] = {}
    for name, part in root.members(max_depth=None):
        if isinstance(part, zarr.Array):
            top = name.split("/")[0]
            parts[top] = parts.get(top, 0) + part.nbytes_stored()
    total = held(where)
    parts = dict(sorted(parts.items())) | {"history": max(total - sum(parts.values()), 0)}
    return {"schema": mark["schema"], "version": mark["version"], "bytes": {"total": total} | parts}


def _picture(memory: SpatialMemory, width: int = 72) -> Text | None:
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


def _show(path: str, told: dict[str, Any], picture: Text | None) -> None:
    from rich.console import Console

    rows = {"keyframes": str(told["keyframes"]), "surfels": f"{told['surfels']:,}"}
    if told["time"]:
        first, last = told["time"]
        rows["time"] = f"{first:.2f} s to {last:.2f} s"
    if told["extent"]:
        low, high = told["extent"]
        sides = " x ".join(f"{b - a:.3g}" for a, b in zip(low, high, strict=True))
        rows["extent"] = f"{sides} world units, from {_point(low)} to {_point(high)}"
    if told["voxel"]:
        rows["voxel"] = f"{told['voxel']:.4g} world units"
    parts = dict(told["bytes"])
    rows["on disk"] = f"{size(parts.pop('total'))}: " + ", ".join(
        f"{name} {size(count)}" for name, count in parts.items()
    )
    rows["written by"] = f"spmem {told['version']}, schema {told['schema']}"
    rows["snapshots"] = "\n".join(
        f"{s['id']}  {_when(s['time'])}  {s['keyframes']} keyframes  {s['message']}"
        for s in told["snapshots"][:5]
    )
    more = len(told["snapshots"]) - 5
    rows["snapshots"] += f"\nand {more} older" if more > 0 else ""
    rows["configuration"] = "\n".join(_settings(told["config"]))
    show(str(path), rows)
    console = Console()
    if picture is not None and console.color_system and console.width >= 72:
        console.print(picture)


def _point(values: list[float]) -> str:
    return "(" + ", ".join(f"{v:.2f}" for v in values) + ")"


def _when(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _settings(config: dict[str, Any]) -> list[str]:
    """One line a part."""
    lines = [", ".join(f"{k}={v}" for k, v in config.items() if not isinstance(v, dict))]
    for part, values in config.items():
        if isinstance(values, dict):
            lines.append(f"{part}: " + ", ".join(f"{k}={v}" for k, v in values.items()))
    return lines
