"""A small memory on disk, and the command line as a function."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from spmem import Camera, worlds
from spmem.cli import app
from spmem.opening import open as open_memory
from spmem.types import Frame

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def run() -> Run:
    """``run("info", path)``: the result, with stdout and stderr apart."""
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="session")
def told(run: Run) -> Callable[..., dict[str, Any]]:
    """``told("info", path)``: what ``--json`` prints, where the command goes well."""

    def ask(*words: object) -> dict[str, Any]:
        with patch.object(click.Command, "invoke", noisily(click.Command.invoke)):
            result = run(*words, "--json")
        assert result.exit_code == 0, result.stderr
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer

    return ask


def noisily(invoke: Callable[..., Any]) -> Callable[..., Any]:
    """A command that prints besides: by Python, and past it as native code does."""

    def noise(command: Any, context: Any) -> Any:
        print("noise of Python")
        os.write(1, b"noise of native code\n")
        return invoke(command, context)

    return noise


@pytest.fixture(scope="session")
def cameras() -> Camera:
    return worlds.loop(worlds.House(seed=0, rooms=2), 24, width=64, height=64)


@pytest.fixture(scope="session")
def frames(cameras: Camera) -> list[Frame]:
    return list(worlds.House(seed=0, rooms=2).frames(cameras))


@pytest.fixture(scope="session")
def memory(frames: Sequence[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory of the frames; tests only read it."""
    path = tmp_path_factory.mktemp("memories") / "house.spmem"
    with open_memory(path) as opened:
        for frame in frames:
            opened.store(frame)
    return path


@pytest.fixture(scope="session")
def dataset(frames: Sequence[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frames as plain folders."""
    path = tmp_path_factory.mktemp("walks") / "house"
    (path / "images").mkdir(parents=True)
    (path / "depth").mkdir()
    for i, frame in enumerate(frames):
        assert frame.depth is not None
        Image.fromarray(frame.rgb.numpy()).save(path / "images" / f"{i:03d}.png")
        steps = (frame.depth.numpy() * 1000).round().astype(np.uint16)
        Image.fromarray(steps).save(path / "depth" / f"{i:03d}.png")
    np.savetxt(path / "poses.txt", [frame.camera.c2w.numpy().ravel() for frame in frames])
    np.savetxt(path / "K.txt", frames[0].camera.K.numpy())
    return path
