"""``spmem demo``: walk, remember, come back, and see what memory knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spmem.cli.ingest import Format
from spmem.cli.shell import Json, format_bytes, print_table
from spmem.evaluation.printing import print_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spmem.cli.course import Course
    from spmem.cli.trial import Answer, Trial
    from spmem.memory import SpatialMemory

ROWS = 6
"""Frames on the sheet."""
ASKED = 90
"""Later frames that are asked about at most; of those held back, a third."""


def demo(
    data: Annotated[
        Path | None, typer.Option(help="A data set of posed RGB-D frames; else a drawn house.")
    ] = None,
    format: Format = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the memory, the sheet and the video.")
    ] = Path("out"),
    seed: Annotated[int, typer.Option(min=0, help="Of the house and the ways through it.")] = 0,
    frames: Annotated[
        int | None,
        typer.Option(min=10, help="Frames of the way out; with --data of the whole data set."),
    ] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Keyframes retrieved at most.")] = 4,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller, for a look.")] = False,
    as_json: Json = False,
) -> None:
    """Walk through a house (or a data set), remember the way out, come back, and compare with the truth."""
    from spmem.cli.course import house_course, walk_course
    from spmem.cli.trial import Trial
    from spmem.opening import open as open_memory
    from spmem.progress import track

    start = perf_counter()
    if data is not None:
        course = walk_course(data, format, frames, 90 if quick else None)
    elif quick:
        course = house_course(seed, frames or 60, 160, 120)
    else:
        course = house_course(seed, frames or 120, 320, 240)
    place = out / "demo.spmem"
    trial = Trial(course, k)
    with open_memory(place, mode="w") as memory:
        trial.store(memory, track(course.stored, "Walking out"))
    with open_memory(place, mode="r") as memory:  # what comes back comes from the disk
        video, answers = _come_back(trial, memory, out)
        figures = _collect_figures(trial, memory, answers) | {"bytes": _measure_folder(place)}
        sheet = _draw_demo_sheet(trial, memory, answers, figures, out / "demo.png")
    figures["seconds"] = perf_counter() - start
    files = {"memory": str(place), "sheet": str(sheet), "video": str(video)}
    if as_json:
        print_json({"course": course.name} | figures | {"files": files})
    else:
        print_table(
            f"{course.name}: remembered, left and seen again", _format_figures(figures, k) | files
        )


def _come_back(trial: Trial, memory: SpatialMemory, out: Path) -> tuple[Path, list[Answer]]:
    """Ask about what comes later, as a video of projection and truth, then about what was held back."""
    from importlib.util import find_spec

    import numpy as np

    from spmem.pictures import coverage_image, rgb_image, write_video
    from spmem.progress import track

    answers: list[Answer] = []

    def images() -> Iterator[NDArray[np.uint8]]:
        rows = trial.course.later
        for answer, frame, found in trial.ask(
            memory, track(rows[:: -(-len(rows) // ASKED)], "Coming back")
        ):
            answers.append(answer)
            seen = found.projection
            known = coverage_image(seen.rgb[0], seen.mask[0], colour=True)
            yield np.concatenate([known, rgb_image(frame.rgb)], 1)

    suffix = ".mp4" if find_spec("av") else ".gif"
    video = write_video(out / f"demo{suffix}", images(), fps=10)
    held_back = trial.course.held_back
    rows = held_back[:: -(-len(held_back) * 3 // ASKED)]
    answers += [
        answer for answer, _, _ in trial.ask(memory, track(rows, "Asking what was held back"))
    ]
    return video, answers


def _collect_figures(trial: Trial, memory: SpatialMemory, answers: list[Answer]) -> dict[str, Any]:
    import numpy as np

    from spmem.cli.trial import summary

    turn = trial.course.turn
    return {
        "frames": len(trial.seconds),
        "keyframes": len(memory.keyframes),
        "surfels": len(memory.geometry),
        "store_ms": 1000 * float(np.median(trial.seconds)),
        "retrieve_ms": 1000 * float(np.median([answer.seconds for answer in answers])),
        "revisits": summary([answer for answer in answers if answer.revisit]),
        "held_back": summary([answer for answer in answers if answer.row < turn]),
        "later": summary([answer for answer in answers if answer.row >= turn]),
    }


def _draw_demo_sheet(
    trial: Trial, memory: SpatialMemory, answers: list[Answer], figures: dict[str, Any], path: Path
) -> Path:
    from spmem.pictures import contact_sheet, save

    picked = _pick_answers(answers, trial.course)
    truth = [trial.course.frames[answer.row] for answer in picked]
    sheet = contact_sheet(
        [trial.retrieve(memory, frame) for frame in truth],
        truth,
        memory=memory,
        title=f"spmem: {trial.course.name}, remembered, left and seen again",
        facts=_format_figures(figures, trial.k),
        labels=[_label_answer(answer, trial.course) for answer in picked],
    )
    return save(sheet, path)


def _pick_answers(answers: list[Answer], course: Course) -> list[Answer]:
    """Mostly revisits, over all the time, and one frame that was held back."""
    import numpy as np

    def spread(some: list[Answer], count: int) -> list[Answer]:
        at = ((np.arange(count) + 0.5) * len(some) / count).astype(int)
        return [some[i] for i in dict.fromkeys(at.tolist() if some else [])]

    revisits = [answer for answer in answers if answer.revisit]
    held_back = [answer for answer in answers if answer.row < course.turn]
    chosen = spread(revisits, ROWS - min(1, len(held_back)))
    return chosen + spread(held_back, ROWS - len(chosen))


def _label_answer(answer: Answer, course: Course) -> str:
    if answer.row < course.turn:
        return "held back on the way out"
    return f"a revisit, {answer.away:.1f} s after"


def _format_figures(figures: dict[str, Any], k: int) -> dict[str, str]:
    """Figures in words; revisits where there are any, else all that came later."""
    which = "revisits" if figures["revisits"]["frames"] else "later"
    revisits, held_back = figures[which], figures["held_back"]
    return {
        "frames remembered": f"{figures['frames']}",
        "keyframes": f"{figures['keyframes']}, {format_bytes(figures['bytes'])} on disk",
        "surfels": f"{figures['surfels']:,}",
        "store / retrieve": f"{figures['store_ms']:.0f} ms / {figures['retrieve_ms']:.0f} ms",
        "revisits" if which == "revisits" else "later frames, no revisits": f"{revisits['frames']}",
        "covered by memory": _format_percent(revisits["coverage"]),
        "seen before, and covered": _format_percent(revisits["recalled"]),
        f"seen before, and in {k} keyframes": _format_percent(revisits["shown"]),
        "median depth error": _format_percent(revisits["depth_error"]),
        "covered but wrong, before / behind": _format_wrong(revisits),
        "projection's PSNR": _format_decibels(revisits["psnr"]),
        "held back: median depth error": _format_percent(held_back["depth_error"]),
        "covered but wrong of those": _format_wrong(held_back),
        "projection's PSNR of those": _format_decibels(held_back["psnr"]),
    }


def _format_wrong(part: dict[str, Any]) -> str:
    return f"{_format_percent(part['before'])} / {_format_percent(part['behind'])}"


def _format_percent(share: float | None) -> str:
    if share is None:
        return "none"
    if share < 1e-4:
        return "< 0.01 %"
    return f"{100 * share:.{1 if share > 0.1 else 2}f} %"


def _format_decibels(psnr: float | None) -> str:
    return "none" if psnr is None else f"{psnr:.1f} dB"


def _measure_folder(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
