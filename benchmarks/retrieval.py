"""Which keyframes does each rule bring back? The same as ``spmem bench retrieval``, with the real walks where they are.

    python benchmarks/retrieval.py [--quick] [--json] [--out DIR] [--docs]

Scenes, measures and rules are those of ``spmem.evaluation``; walks are read from SPMEM_TEST_DATA. --docs brings the tables into
docs/benchmarks.md and the plots into docs/pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image
from real_walks import WALKS

from spmem.evaluation.publish import publish
from spmem.evaluation.report import ROOT, parse_options, print_report, walks_folder
from spmem.evaluation.retrieval import Scope, retrieval
from spmem.evaluation.tables import aims, each_scene, summary

MARKS = ("<!-- retrieval: begin -->\n", "<!-- retrieval: end -->")


def to_docs(files: list[Path]) -> None:
    """Between the marks on the page, and beside the other pictures in 64 colours."""
    *pictures, tables = files
    for picture in pictures:
        image = Image.open(picture).convert("RGB")
        small = image.quantize(64, dither=Image.Dither.NONE)
        small.save(ROOT / "docs" / "pictures" / picture.name, optimize=True)
    page = ROOT / "docs" / "benchmarks.md"
    before, rest = page.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    page.write_text(before + MARKS[0] + "\n" + tables.read_text() + "\n" + MARKS[1] + after)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small scenes, for a look")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench", help="for plots")
    parser.add_argument("--docs", action="store_true", help="renew the page and its pictures")
    options = parse_options(parser)
    walks = [walks_folder() / name for name in WALKS if (walks_folder() / name).is_dir()]
    found = retrieval(Scope.quick() if options.quick else Scope(), walks)
    files = publish(found, options.out)
    if options.docs:
        to_docs(files)
    rows = summary(found) + (each_scene(found.answers) if options.json else [])
    print_report(rows, aims(found), as_json=options.json)


if __name__ == "__main__":
    main()
