"""How fast the procedural houses are drawn: colour, depth, normals and instances of a walk at 128x128.

python benchmarks/worlds.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
from time import perf_counter

import numpy as np

from spmem import worlds
from spmem.evaluation.report import aim, parse_options, print_report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one house")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parse_options(parser)
    rates = []
    for seed in range(1 if options.quick else 5):
        house = worlds.House(seed=seed)
        walk = worlds.walk(house, 200, width=128, height=128)
        house.render(walk[:4])  # compiles
        start = perf_counter()
        house.render(walk)
        rates.append(len(walk) / (perf_counter() - start))
    rows = [{"house": seed, "frames a second": round(rate)} for seed, rate in enumerate(rates)]
    aims = [aim("128x128", round(float(np.median(rates))), 100, "frames/s", "higher")]
    print_report(rows, aims, as_json=options.json)


if __name__ == "__main__":
    main()
