"""Memories of an older schema: read as they are, and written as the latest by the first commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import zarr

from spmem.errors import CorruptMemoryError, SchemaError
from spmem.stores.keyframes.zarr import ZarrKeyframes, schema
from spmem.testing.sample_frames import sample_frame


def mark(path: Path) -> Any:
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
    root = zarr.open_group(repository.readonly_session("main").store, mode="r")
    return root.attrs["spmem"]


def in_seconds(columns: schema.Columns) -> schema.Columns:
    """As if schema 1 had kept milliseconds, in a column of another name."""
    return {**columns, "time": columns["time"] / 1000}


def renamed(name: str, content: schema.GroupContent) -> schema.GroupContent:
    """As if schema 1 had called an array of the map otherwise."""
    arrays, attributes = content
    if name != "map":
        return content
    return {"position": arrays["xyz"]}, {**attributes, "unit": "m"}


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A memory of schema 1, seen by a version that writes schema 3."""
    path = tmp_path / "walk.spmem"
    store = ZarrKeyframes.open(path)
    for number in range(3):
        store.append(sample_frame(number).replace(time=1000.0 * number))
    store.write_arrays("map", {"xyz": np.arange(6.0)}, {"n": 1})
    store.write_arrays("other", {"a": np.arange(3)}, {})
    store.commit("of schema 1")
    store.close()
    monkeypatch.setattr(schema, "SCHEMA", 3)
    steps = {1: schema.Migration(columns=in_seconds), 2: schema.Migration(group=renamed)}
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    return path


def check(store: ZarrKeyframes, times: list[float]) -> None:
    assert store.times().tolist() == times
    assert [store.read(id).time for id in store.ids().tolist()] == times
    found, other = store.read_arrays("map"), store.read_arrays("other")
    assert found is not None
    assert other is not None
    assert list(found[0]) == ["position"]
    assert found[0]["position"].tolist() == list(range(6))
    assert found[1] == {"n": 1, "unit": "m"}
    assert other[0]["a"].tolist() == [0, 1, 2]


def test_reading_changes_nothing(older: Path) -> None:
    files = {file: file.read_bytes() for file in older.rglob("*") if file.is_file()}
    store = ZarrKeyframes.open(older, "r")
    check(store, [0.0, 1.0, 2.0])
    assert store.describe()["schema"] == 1
    store.close()
    assert {file: file.read_bytes() for file in older.rglob("*") if file.is_file()} == files


def test_the_first_commit_writes_all_as_the_latest(older: Path) -> None:
    store = ZarrKeyframes.open(older)
    store.append(sample_frame(3).replace(time=3.0))
    check(store, [0.0, 1.0, 2.0, 3.0])
    store.commit("of schema 3")
    check(store, [0.0, 1.0, 2.0, 3.0])
    store.close()
    assert mark(older)["schema"] == 3
    again = ZarrKeyframes.open(older)
    check(again, [0.0, 1.0, 2.0, 3.0])
    again.commit("once more")
    check(again, [0.0, 1.0, 2.0, 3.0])
    check(again.at(again.snapshots()[-1].id), [0.0, 1.0, 2.0])  # the snapshot of schema 1


def test_a_group_that_is_written_first_is_not_migrated_twice(older: Path) -> None:
    store = ZarrKeyframes.open(older)
    store.write_arrays("map", {"position": np.arange(6.0)}, {"n": 1, "unit": "m"})
    check(store, [0.0, 1.0, 2.0])
    store.commit("of schema 3")
    check(ZarrKeyframes.open(older, "r"), [0.0, 1.0, 2.0])


def test_a_fork_of_an_older_schema_is_of_the_latest(older: Path) -> None:
    store = ZarrKeyframes.open(older)
    with_new = store.append(sample_frame(3).replace(time=3.0))
    fork = store.fork("left")
    assert with_new in fork.ids()
    check(fork, [0.0, 1.0, 2.0, 3.0])
    fork.commit("here")
    fork.close()
    check(ZarrKeyframes.open(older, "r", branch="left"), [0.0, 1.0, 2.0, 3.0])


def test_a_migration_that_cannot_be_is_an_error_of_ours(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", {1: schema.Migration(columns=lambda c: {"id": c["id"]})} | {2: schema.Migration()})  # fmt: skip
    with pytest.raises(CorruptMemoryError):
        ZarrKeyframes.open(older, "r")


def test_an_older_version_refuses_a_newer_schema(
    older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ZarrKeyframes.open(older)
    store.append(sample_frame(3))
    store.commit("of schema 3")
    store.close()
    monkeypatch.setattr(schema, "SCHEMA", 2)
    with pytest.raises(SchemaError, match=r"schema 3.*pip install --upgrade"):
        ZarrKeyframes.open(older, "r")
