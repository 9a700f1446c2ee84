"""The retrieval benchmark's files: plots, and tables for a page."""

from __future__ import annotations

from pathlib import Path

from spmem.evaluation import plots
from spmem.evaluation.report import markdown
from spmem.evaluation.retrieval import Findings
from spmem.evaluation.tables import aims, summary
from spmem.pictures import save


def publish(found: Findings, folder: Path) -> list[Path]:
    """Write ``retrieval.png``, ``absence.png``, ``calibration.png`` and ``retrieval.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"retrieval": plots.bars(found.answers), "absence": plots.absence(found.answers)}
    if found.claims:
        drawn["calibration"] = plots.reliability(found.claims)
    files = [save(figure, folder / f"{name}.png", dpi=120) for name, figure in drawn.items()]
    page = folder / "retrieval.md"
    page.write_text(markdown([*summary(found), *aims(found)]), encoding="utf-8")
    return [*files, page]
