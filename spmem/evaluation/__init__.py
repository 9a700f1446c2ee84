"""Benchmarks that users can run themselves: ``spmem bench NAME``."""
