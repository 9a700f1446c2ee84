"""Every error spmem raises: one family, and each is a builtin too, so ``except ValueError`` works."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from os import PathLike
from pathlib import Path


class SpmemError(Exception):
    """Base of every error that spmem raises on purpose; pickles, so that it reaches the caller of a worker process."""

    def __reduce__(self) -> tuple[object, ...]:
        return _arrived, (type(self), self.args, vars(self))


class InputError(SpmemError, ValueError):
    """A value handed to spmem cannot mean what its slot means."""


class CameraError(InputError):
    """Intrinsics or pose that no camera has: singular K, a pose that is not rigid, a wrong shape."""


class FrameError(InputError):
    """Pixels or depth that no frame has: NaN, negative depth, a size other than the camera's."""


class ConventionError(InputError):
    """Poses that contradict the depth, and fit under another convention (axes, or inverted)."""


class DeviceError(InputError):
    """Tensors of one call lie on different devices."""


class DTypeError(SpmemError, TypeError):
    """A tensor's dtype leaves its meaning open, as uint16 depth without a scale does."""


class UnknownNameError(SpmemError, LookupError):
    """No part goes by this name."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        super().__init__(f"no {what} is called {name!r}{hint} (there are: {', '.join(known)})")


class MissingExtraError(SpmemError, ImportError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str, what: str) -> None:
        super().__init__(
            f"{what} needs {package}, which is not installed: pip install 'spmem[{extra}]'"
        )


class FormatError(SpmemError, ValueError):
    """A file of a data set is missing, broken or not what its layout promises; names the file."""

    def __init__(self, path: str | PathLike[str], problem: str) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: {problem}")


class StoreError(SpmemError, OSError):
    """The stored memory cannot be read or written."""


class NotAMemoryError(StoreError, FileNotFoundError):
    """There is no spmem memory at this place."""


class SchemaError(StoreError):
    """The memory was written with a schema that this version cannot read."""


class ReadOnlyError(StoreError, PermissionError):
    """A memory opened for reading was asked to store, or its folder cannot be written."""


class CorruptMemoryError(StoreError):
    """Stored bytes do not decode to what was stored; names the keyframe."""


class ConflictError(StoreError):
    """Another writer committed to the same branch first; nothing was overwritten."""


class SnapshotNotFoundError(StoreError, LookupError):
    """The memory has no snapshot, tag or branch of this name, or none as old as wanted."""


class KeyframeNotFoundError(SpmemError, KeyError):
    """The bank holds no keyframe with this id."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "no such keyframe"


def _arrived(
    kind: type[SpmemError], args: tuple[object, ...], state: dict[str, object]
) -> SpmemError:
    """An error that was raised in another process."""
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error
