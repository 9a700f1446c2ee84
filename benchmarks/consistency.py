"""Does the bundled generator keep a place as it was? The same as ``spmem bench consistency``.

    python benchmarks/consistency.py [--quick] [--json] [--out DIR] [--houses N] [--rewrite] [--docs]

Journeys and controls are those of ``spmem.bench``. --docs brings the tables into docs/benchmarks.md and the pictures into
docs/pictures.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from PIL import Image

from spmem.bench.consistency import Scope, aims, consistency, drift, summary
from spmem.bench.report import ROOT, markdown, tell
from spmem.bench.strips import curves, strips
from spmem.integrations.reference.generator import ReferenceGenerator

MARKS = ("<!-- consistency: begin -->\n", "<!-- consistency: end -->")
SHOWN = ("consistency.png", "strip-rotate-and-return-0.png", "strip-reverse-0.png")


def to_docs(folder: Path, tables: str) -> None:
    """Between the marks on the page, and beside the other pictures in 128 colours."""
    for name in SHOWN:
        small = Image.open(folder / name).convert("RGB").quantize(128, dither=Image.Dither.NONE)
        small.save(ROOT / "docs" / "pictures" / name, optimize=True)
    page = ROOT / "docs" / "benchmarks.md"
    before, rest = page.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    page.write_text(before + MARKS[0] + "\n" + tables + "\n" + MARKS[1] + after)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two houses, for a look")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench", help="for pictures")
    parser.add_argument("--houses", type=int, default=8, help="for each kind of way")
    parser.add_argument("--rewrite", action="store_true", help="memory takes all that is generated")
    parser.add_argument("--docs", action="store_true", help="renew the page and its pictures")
    options = parser.parse_args()
    scope = Scope.quick() if options.quick else Scope(seeds=tuple(range(options.houses)))
    scope = replace(scope, rewrite=options.rewrite)
    rows, shown = consistency(ReferenceGenerator.from_pretrained("nano", steps=4), scope)
    strips(shown, options.out)
    curves(rows, options.out)
    told = [*summary(rows), *drift(rows)]
    if options.docs:
        to_docs(options.out, markdown([*told, *aims(rows)]))
    tell(told + (rows if options.json else []), aims(rows), as_json=options.json)


if __name__ == "__main__":
    main()
