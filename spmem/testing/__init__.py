"""For tests, yours and ours: procedural worlds, and a conformance class for every seam."""
