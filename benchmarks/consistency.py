"""Does the bundled generator keep a place as it was? The same as ``spmem bench consistency``.

    python benchmarks/consistency.py [--quick] [--json] [--out DIR] [--houses N] [--chunks N] [--families NAMES]
        [--moving N] [--rules NAMES] [--matches] [--lpips FILE …] [--rewrite] [--docs]

Journeys and controls are those of ``spmem.evaluation``. --docs brings the tables into docs/benchmarks.md and the pictures into
docs/pictures: those of the controls, of rules or of things that move, each at its own place.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from PIL import Image

from spmem.evaluation.consistency import Scope, consistency
from spmem.evaluation.paired import aims, drift, summary
from spmem.evaluation.report import ROOT, markdown, parse_options, print_report
from spmem.evaluation.strips import curves, strips
from spmem.integrations.reference.generator import ReferenceGenerator

SHOWN = {
    "consistency": {
        name: name
        for name in ("consistency.png", "strip-rotate-and-return-0.png", "strip-reverse-0.png")
    },
    "consistency, moving": {"strip-loop-1.png": "strip-moving.png"},
    "consistency, rules": {},
}
"""The parts of the page, between marks of these names; the pictures of each, and what they are called there."""


def to_docs(folder: Path, part: str, tables: str) -> None:
    """Between the marks of a part of the page, and beside the other pictures in 128 colours."""
    for source, name in SHOWN[part].items():
        small = Image.open(folder / source).convert("RGB").quantize(128, dither=Image.Dither.NONE)
        small.save(ROOT / "docs" / "pictures" / name, optimize=True)
    page = ROOT / "docs" / "benchmarks.md"
    begin, end = f"<!-- {part}: begin -->\n", f"<!-- {part}: end -->"
    before, rest = page.read_text().split(begin)
    after = rest.split(end)[1]
    page.write_text(before + begin + "\n" + tables + "\n" + end + after)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two houses, for a look")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench", help="for pictures")
    parser.add_argument("--houses", type=int, default=8, help="for each kind of way")
    parser.add_argument("--chunks", type=int, help="of four frames; 12, or 4 for a look")
    parser.add_argument("--moving", type=int, default=0, help="things that move in each house")
    parser.add_argument("--families", default="", help="kinds of way, with commas")
    parser.add_argument("--rules", default="", help="in place of the controls; or all")
    parser.add_argument("--matches", action="store_true", help="match keypoints; wants OpenCV")
    parser.add_argument("--lpips", type=Path, nargs="*", default=(), help="files of weights")
    parser.add_argument("--rewrite", action="store_true", help="memory takes all that is generated")
    parser.add_argument("--docs", action="store_true", help="renew the page and its pictures")
    options = parse_options(parser)
    scope = Scope.quick() if options.quick else Scope(seeds=tuple(range(options.houses)))
    scope = replace(
        scope,
        chunks=options.chunks or scope.chunks,
        rewrite=options.rewrite,
        matches=options.matches,
        lpips=tuple(options.lpips),
    )
    scope = scope.with_families(options.families) if options.families else scope
    scope = scope.with_rules(options.rules) if options.rules else scope
    scope = scope.with_movers(options.moving) if options.moving else scope
    rows, shown = consistency(ReferenceGenerator.from_pretrained("nano", steps=4), scope)
    strips(shown, options.out)
    curves(rows, options.out)
    summaries = [*summary(rows), *drift(rows)]
    if options.docs:
        part = ", rules" if options.rules else ", moving" if options.moving else ""
        published = summary(rows) if part else [*summaries, *aims(rows)]
        to_docs(options.out, f"consistency{part}", markdown(published))
    print_report(summaries + (rows if options.json else []), aims(rows), as_json=options.json)


if __name__ == "__main__":
    main()
