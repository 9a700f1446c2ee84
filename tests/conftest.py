"""Shared by all tests: GPU tests skip with a reason, real walks are found or skipped, Triton runs on what there is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

if not torch.cuda.is_available():  # Triton's kernels, where Triton is installed, in its interpreter
    os.environ.setdefault("TRITON_INTERPRET", "1")

if "PYTEST_XDIST_WORKER" in os.environ:  # the cores are shared with the other workers
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of what tests start

settings.register_profile("spmem", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("spmem")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device, and torch finds none here")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def real_walks() -> Path:
    """Folder of the real RGB-D walks."""
    default = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("SPMEM_TEST_DATA", default))
    if not path.is_dir():
        pytest.skip(f"the real walks are not at {path}; point SPMEM_TEST_DATA at them")
    return path
