"""Ingesting, asking, rendering and describing memories."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spmem import Camera
from spmem.opening import open as open_memory


def message(result: Any) -> str:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    text: str = result.stderr
    return text


# -- ingest -------------------------------------------------------------------------------------------


def test_ingest_stores_the_walk(told: Any, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.spmem"
    answer = told("ingest", dataset, "--out", out, "--stride", 2, "--limit", 6)
    assert answer["frames"] == 6
    assert 1 <= answer["keyframes"] == answer["new_keyframes"] <= 6
    assert answer["bytes"] > 0
    with open_memory(out, mode="r") as opened:
        assert len(opened.keyframes) == answer["keyframes"]
        assert len(opened.geometry) == answer["surfels"]


def test_novelty_decides_how_many_keyframes(told: Any, dataset: Path, tmp_path: Path) -> None:
    all_ = told("ingest", dataset, "--out", tmp_path / "all", "--limit", 6, "--novelty", 0)
    few = told("ingest", dataset, "--out", tmp_path / "few", "--limit", 6, "--novelty", 1)
    assert all_["keyframes"] == 6
    assert few["keyframes"] == 1


def test_ingest_adds_only_where_it_may(run: Any, told: Any, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "grown.spmem"
    words = ["ingest", dataset, "--out", out, "--limit", 3, "--novelty", 0]
    assert told(*words)["keyframes"] == 3
    assert "--append" in message(run(*words))
    grown = told(*words, "--append")
    assert (grown["keyframes"], grown["new_keyframes"]) == (6, 3)


def test_ingest_takes_options_of_the_format(
    told: Any, run: Any, dataset: Path, tmp_path: Path
) -> None:
    words = ["ingest", dataset, "--format", "folders", "--limit", 2]
    told(*words, "--out", tmp_path / "timed", "--option", "fps=4")
    with open_memory(tmp_path / "timed", mode="r") as opened:
        assert opened.recent[-1].time == 0.25
    assert "no option speed" in message(run(*words, "--out", tmp_path / "x", "--option", "speed=4"))
    wrong = run(*words, "--out", tmp_path / "x", "--option", "fps")
    assert wrong.exit_code == 2
    assert not (tmp_path / "x").exists()


def test_ingest_names_what_is_wrong_with_its_source(
    run: Any, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x"
    assert "does not exist" in message(run("ingest", tmp_path / "none", "--out", out))
    assert "did you mean 'folders'" in message(
        run("ingest", dataset, "--format", "folder", "--out", out)
    )
    broken = tmp_path / "broken"
    shutil.copytree(dataset, broken)
    (broken / "depth" / "001.png").write_bytes(b"no image")
    assert "001.png" in message(run("ingest", broken, "--out", out, "--novelty", 0))
    with open_memory(out, mode="r") as opened:  # what came before the broken file is kept
        assert len(opened.keyframes) == 1


# -- retrieve -----------------------------------------------------------------------------------------


def test_retrieve_for_a_keyframe_answers_others(told: Any, memory: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    answer = told("retrieve", memory, "--frame", 1, "--k", 2, "--out", out)
    assert answer["coverage"][0] > 0.8
    assert 1 <= len(answer["keyframes"]) <= 2
    for one in answer["keyframes"]:
        assert one["id"] != 1
        assert 0 <= one["alone"] <= one["sees"] <= 1
    assert Image.open(out).width == 1600


def test_retrieve_for_cameras_of_a_file(
    told: Any, run: Any, memory: Path, cameras: Camera, tmp_path: Path
) -> None:
    file = tmp_path / "poses.txt"
    np.savetxt(file, cameras.c2w[:3].reshape(3, 16).numpy())  # the memory's own lens
    answer = told("retrieve", memory, "--camera", file, "--method", "recent")
    assert len(answer["coverage"]) == 3
    assert min(answer["coverage"]) > 0.8
    with open_memory(memory, mode="r") as opened:
        expected = opened.retrieve(cameras[:3], method="recent", given=())
    assert [one["id"] for one in answer["keyframes"]] == [one.id for one in expected.keyframes]
    assert answer["coverage"] == pytest.approx(expected.coverage.tolist(), abs=0.01)
    shown = run("retrieve", memory, "--camera", file)
    assert shown.exit_code == 0
    assert "memory covers" in shown.stdout


def test_retrieve_wants_one_camera_source(run: Any, memory: Path) -> None:
    assert run("retrieve", memory).exit_code == 2
    assert run("retrieve", memory, "--frame", 0, "--camera", "x.txt").exit_code == 2


def test_retrieve_names_what_is_wrong(run: Any, memory: Path, tmp_path: Path) -> None:
    unknown = message(run("retrieve", memory, "--frame", 0, "--method", "covisibilty"))
    assert "did you mean 'covisibility'" in unknown
    assert "999" in message(run("retrieve", memory, "--frame", 999))
    missing = tmp_path / "cameras.txt"
    assert str(missing) in message(run("retrieve", memory, "--camera", missing))
    missing.write_text("1 2 3\n")
    assert "cameras.txt" in message(run("retrieve", memory, "--camera", missing))


# -- find ---------------------------------------------------------------------------------------------


def test_find_by_image_time_and_region(told: Any, run: Any, memory: Path, tmp_path: Path) -> None:
    picture, sheet = tmp_path / "asked.png", tmp_path / "sheet.png"
    with open_memory(memory, mode="r") as opened:
        asked = opened.keyframes[2]
        Image.fromarray(asked.frame.rgb.numpy()).save(picture)
        latest = max(opened.views.times)
    answer = told("find", memory, "--image", picture, "-k", 3, "--out", sheet)
    assert answer["keyframes"][0]["id"] == 2
    assert answer["keyframes"][0]["by"]["image"] > 0.99
    assert len(answer["keyframes"]) == 3
    assert Image.open(sheet).width == 1600
    before = told("find", memory, "--time", f":{asked.time}", "--region", "-99,-99,-99,99,99,99")
    assert before["keyframes"][0] == {"id": 2, "time": asked.time, "score": asked.time, "by": {}}
    assert told("find", memory, "--time", f"{latest + 1}:")["keyframes"] == []
    shown = run("find", memory, "--image", picture)
    assert shown.exit_code == 0
    assert "image" in shown.stdout


def test_find_names_what_is_wrong(run: Any, memory: Path) -> None:
    assert "asked nothing" in message(run("find", memory))
    assert "describes images only" in message(run("find", memory, "--text", "a chair"))
    assert "no embedder is called" in message(run("find", memory, "--embedder", "siglap"))
    for wrong in (["--time", "3"], ["--time", "a:b"], ["--region", "1,2,3"]):
        assert run("find", memory, *wrong).exit_code == 2


# -- render -------------------------------------------------------------------------------------------


def test_render_along_the_keyframes(told: Any, memory: Path, tmp_path: Path) -> None:
    out = tmp_path / "images"
    answer = told(
        "render",
        memory,
        "--out",
        out,
        "--frames",
        3,
        "--width",
        32,
        "--show",
        "rgb,depth,normal,mask",
    )
    assert (answer["frames"], answer["width"], answer["height"]) == (3, 32, 32)
    assert answer["coverage"] > 0.8
    assert [Image.open(file).size for file in sorted(out.iterdir())] == [(128, 32)] * 3


def test_render_an_orbit_and_a_file(
    told: Any, memory: Path, cameras: Camera, tmp_path: Path
) -> None:
    orbit = told("render", memory, "--path", "orbit", "--frames", 4, "--out", tmp_path / "o.gif")
    assert orbit["frames"] == getattr(Image.open(tmp_path / "o.gif"), "n_frames", 1)
    file = tmp_path / "poses.txt"
    np.savetxt(file, cameras.c2w[:2].reshape(2, 16).numpy())
    answer = told("render", memory, "--path", file, "--out", tmp_path / "two")
    assert answer["frames"] == len(list((tmp_path / "two").iterdir())) == 2


def test_render_names_what_is_wrong(run: Any, memory: Path, tmp_path: Path) -> None:
    words = ["render", memory, "--frames", 2, "--width", 16]
    assert "did you mean 'depth'" in message(run(*words, "--out", tmp_path / "a", "--show", "dept"))
    assert ".mp4" in message(run(*words, "--out", tmp_path / "a.webm"))
    assert "missing" in message(run(*words, "--path", "orbits", "--out", tmp_path / "a"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert "choose a new or empty folder" in message(run(*words, "--out", tmp_path / "full"))
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["mine.txt"]
    assert not (tmp_path / "a").exists()


# -- info ---------------------------------------------------------------------------------------------


def test_info_tells_what_the_memory_holds(run: Any, told: Any, memory: Path) -> None:
    answer = told("info", memory)
    with open_memory(memory, mode="r") as opened:
        assert answer["keyframes"] == len(opened.keyframes)
        assert answer["surfels"] == len(opened.geometry)
        assert answer["config"] == opened.config.to_json()
        assert [one["id"] for one in answer["snapshots"]] == [s.id for s in opened.snapshots()]
    low, high = answer["extent"]
    assert all(a < b for a, b in zip(low, high, strict=True))
    parts = dict(answer["bytes"])
    files = sum(file.stat().st_size for file in memory.rglob("*") if file.is_file())
    assert parts.pop("total") == files
    assert {"geometry", "keyframes", "views"} <= set(parts)
    shown = run("info", memory)
    assert shown.exit_code == 0
    assert f"{answer['surfels']:,}" in shown.stdout


def test_info_of_an_empty_memory(run: Any, told: Any, tmp_path: Path) -> None:
    with open_memory(tmp_path / "empty"):
        pass
    answer = told("info", tmp_path / "empty")
    assert (answer["keyframes"], answer["surfels"]) == (0, 0)
    assert answer["extent"] is None
    assert run("info", tmp_path / "empty").exit_code == 0
    assert "no keyframes" in message(run("render", tmp_path / "empty", "--out", tmp_path / "a.gif"))
