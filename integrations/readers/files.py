"""The files of a data set. All readers open them here, and nothing that a data set says leads out of it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from spmem.errors import FormatError

# A pipe without a writer opens at once, and text mode is not for us; neither flag is there on every system.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class DataPath:
    """A file or folder of a data set.

    path: Where it lies, as the user or the data set names it.
    root: What the user named: the data set's folder, or one file. It may be a link itself.
    """

    path: Path
    root: Path

    @classmethod
    def named(cls, path: str | Path | DataPath) -> DataPath:
        """What the user names is its own root."""
        return path if isinstance(path, DataPath) else cls(Path(path), Path(path))

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        """The path as it can be printed, whatever bytes a file system or a stranger put into it."""
        return str(self.path).encode("utf-8", "backslashreplace").decode()

    def __truediv__(self, name: str) -> DataPath:
        return replace(self, path=self.path / name)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self.path.stem

    @property
    def suffix(self) -> str:
        """The name's ending in small letters, with its dot."""
        return self.path.suffix.lower()

    def beside(self, name: str) -> DataPath:
        """A file or folder in the same folder; that folder is the root if the user named this file."""
        folder = self.path.parent
        return DataPath(folder / name, folder if self.path == self.root else self.root)

    def is_file(self) -> bool:
        """Whether a regular file, or a link to one, is there."""
        return os.path.isfile(self.path)

    def is_dir(self) -> bool:
        """Whether a folder, or a link to one, is there."""
        return os.path.isdir(self.path)

    def entries(self) -> list[DataPath]:
        """What a folder holds, by name. Raises FormatError if it leads out of the data set, or is none."""
        try:
            return [self / name for name in sorted(os.listdir(_inside(self)))]
        except FileNotFoundError:
            raise FormatError(self, "is missing") from None
        except OSError as error:
            raise FormatError(self, f"cannot be listed: {error.strerror}") from error

    def open(self) -> BinaryIO:
        """The file, to be read; see :func:`open_file`."""
        return open_file(self)

    def read(self) -> bytes:
        """All that the file holds. Raises FormatError as :func:`open_file` does."""
        with open_file(self) as file:
            return file.read()


def open_file(file: DataPath) -> BinaryIO:
    """A regular file of a data set, to be read.

    Links are followed as long as they stay inside the data set. The root itself may be a link.

    Raises:
        FormatError: It is missing, cannot be read, is no regular file (a folder, a pipe, a device), or lies outside the
            data set: by an absolute path, by ``..``, or behind a link.
    """
    try:
        number = os.open(_inside(file), _FLAGS)
    except FileNotFoundError:
        raise FormatError(file, "is missing") from None
    except OSError as error:
        raise FormatError(file, f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise FormatError(file, "is no regular file; data sets hold files and folders only")
    return os.fdopen(number, "rb")


def size_of(file: BinaryIO) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def _inside(file: DataPath) -> str:
    """Where the file really lies. Raises FormatError if that is outside of its root."""
    try:
        real, root = os.path.realpath(file.path), os.path.realpath(file.root)
    except ValueError as error:  # NUL, or letters that no file system writes
        raise FormatError(repr(str(file)), f"is no name of a file: {error}") from error
    if real != root and not real.startswith(os.path.join(root, "")):
        raise FormatError(
            file,
            f"leads out of the data set {file.root}, and nothing outside is read; name the folder that holds "
            "both, or copy your own links' targets into it (cp -rL)",
        )
    return real
