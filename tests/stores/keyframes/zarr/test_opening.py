"""Opening a bank: modes, other people's folders, versions, and what reading leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import icechunk
import pytest
import zarr

from spmem.config import KeyframeConfig
from spmem.errors import (
    InputError,
    NotAMemoryError,
    ReadOnlyError,
    SchemaError,
    SnapshotNotFoundError,
    StoreError,
)
from spmem.stores.keyframes.zarr import ZarrKeyframes
from spmem.testing.sample_frames import sample_frame


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "walk.spmem"


def write(path: Path, count: int = 2, mode: str = "a") -> None:
    store = ZarrKeyframes.open(path, mode)
    for number in range(count):
        store.append(sample_frame(number))
    store.commit("written")
    store.close()


def content(folder: Path) -> dict[Path, tuple[int, int]]:
    return {f: (f.stat().st_mtime_ns, f.stat().st_size) for f in [folder, *folder.rglob("*")]}


def mark(path: Path, attributes: dict[str, Any]) -> None:
    """Make an Icechunk repository with these root attributes."""
    storage = icechunk.local_filesystem_storage(str(path))
    repository = icechunk.Repository.open_or_create(storage)
    session = repository.writable_session("main")
    zarr.open_group(session.store, mode="a").attrs.put(attributes)
    session.commit("marked")


def test_reading_writes_nothing(path: Path) -> None:
    write(path)
    before = content(path.parent)
    store = ZarrKeyframes.open(path, "r")
    store.read(0)
    store.snapshots()
    store.cameras()
    assert store.read_arrays("map") is None
    for use in (
        lambda: store.append(sample_frame(0)),
        lambda: store.commit("no"),
        lambda: store.write_arrays("map", {}, {}),
    ):
        with pytest.raises(ReadOnlyError, match="mode='a'"):
            use()
    store.close()
    assert content(path.parent) == before


def test_reading_needs_a_memory_and_makes_none(path: Path) -> None:
    with pytest.raises(NotAMemoryError, match="nothing is there"):
        ZarrKeyframes.open(path, "r")
    assert not path.exists()
    path.mkdir()
    with pytest.raises(NotAMemoryError, match="empty"):
        ZarrKeyframes.open(path, "r")
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("mode", ["r", "a", "w"])
def test_other_folders_stay_untouched(path: Path, mode: str) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")
    before = content(path)
    with pytest.raises(NotAMemoryError, match=r"thesis\.tex"):
        ZarrKeyframes.open(path, mode)
    assert content(path) == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", ["r", "a", "w"])
def test_other_arrays_are_told_apart(path: Path, mode: str) -> None:
    zarr.create_group(path / "plain")
    mark(path / "other", {"owner": "someone else"})
    path.with_name("file").write_text("text")
    for place, found in [
        (path / "plain", "plain Zarr"),
        (path / "other", "not an spmem memory|no spmem memory"),
        (path.with_name("file"), "a file is there"),
    ]:
        with pytest.raises(NotAMemoryError, match=found):
            ZarrKeyframes.open(place, mode)


def test_an_empty_folder_becomes_a_memory(path: Path) -> None:
    path.mkdir()
    write(path)
    assert len(ZarrKeyframes.open(path, "r")) == 2


def test_missing_parents_are_made_and_nothing_is_left_beside(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "one" / "walk.spmem")
    assert [p.name for p in (tmp_path / "runs" / "one").iterdir()] == ["walk.spmem"]


def test_w_replaces_a_memory(path: Path) -> None:
    write(path, 3)
    write(path, 1, "w")
    store = ZarrKeyframes.open(path, "r")
    assert len(store) == 1
    assert [s.keyframes for s in store.snapshots()] == [1]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_newer_schema_names_its_writer_and_the_remedy(path: Path) -> None:
    write(path)
    mark(path, {"spmem": {"schema": 99, "version": "7.0.1"}})
    for mode in "ra":
        with pytest.raises(SchemaError, match=r"spmem 7\.0\.1.*schema 99.*upgrade"):
            ZarrKeyframes.open(path, mode)


def test_a_senseless_schema_is_told(path: Path) -> None:
    mark(path, {"spmem": {"schema": "one"}})
    with pytest.raises(SchemaError, match="'one'"):
        ZarrKeyframes.open(path, "r")


def test_a_reader_sees_the_commit_that_it_opened(path: Path) -> None:
    write(path, 2)
    reader, writer = ZarrKeyframes.open(path, "r"), ZarrKeyframes.open(path)
    writer.append(sample_frame(2))
    writer.commit("third")
    assert len(reader) == 2
    assert len(reader.snapshots()) == 1
    reader.read(1)
    assert len(ZarrKeyframes.open(path, "r")) == 3


def test_quality_is_the_colours(path: Path) -> None:
    sizes = []
    for quality in (50, 98):
        store = ZarrKeyframes.open(path, "w", KeyframeConfig(quality=quality))
        store.append(sample_frame(0, width=200, height=150))
        store.commit("one")
        sizes.append(sum(chunk.stat().st_size for chunk in (path / "chunks").iterdir()))
    assert sizes[0] < sizes[1]


def test_modes_and_addresses_are_checked(path: Path) -> None:
    with pytest.raises(InputError, match="mode"):
        ZarrKeyframes.open(path, "rw")
    for address in ("ftp://host/walk", "s3://bucket", "s3:///walk"):
        with pytest.raises(InputError, match="://"):
            ZarrKeyframes.open(address)
    with pytest.raises(InputError, match="options"):
        ZarrKeyframes.open(path, options={"region": "here"})
    with pytest.raises(InputError, match="s3://bucket/walk"):
        ZarrKeyframes.open("s3://bucket/walk", options={"no_such_option": 1})
    ZarrKeyframes.open(path).close()
    with pytest.raises(SnapshotNotFoundError, match="main"):
        ZarrKeyframes.open(path, branch="elsewhere")


def test_errors_are_builtin_ones_too(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ZarrKeyframes.open(path, "r")
    assert issubclass(StoreError, OSError)
