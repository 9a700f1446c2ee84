"""Text, numbers in text, and JSON; every error names the file and the line."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spmem.errors import FormatError
from spmem.integrations.readers.files import DataPath

# What C runtimes print for a value that is not finite; Python's float() reads the other spellings.
_NOT_FINITE = re.compile(r"[-+]?(1\.#(IND|[QS]NAN|INF)\d*|nan\([^)]*\))", re.IGNORECASE)


def read_text(path: DataPath) -> str:
    """The whole file as UTF-8. Raises FormatError if it is missing or not text."""
    try:
        return path.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(path, f"is not a text file: {error}") from error


def read_json(path: DataPath) -> Any:
    """What a JSON file says. Raises FormatError if it is missing, no JSON, or nested too deeply."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(path, f"is not JSON: {error}") from error


def read_lines(path: DataPath) -> list[tuple[int, list[str]]]:
    """(line number, words) of each line that is neither empty nor a comment (#); commas separate too."""
    lines = enumerate(read_text(path).splitlines(), start=1)
    split = ((number, line.replace(",", " ").split()) for number, line in lines)
    return [(number, words) for number, words in split if words and not words[0].startswith("#")]


def read_rows(path: DataPath, counts: tuple[int, ...], what: str) -> NDArray[np.float64]:
    """The file as an array ``[n, count]``, every line with the same one of ``counts`` numbers.

    NaN and infinity are read as such (also as ``-1.#IND``): what they mean is the caller's to say.

    Raises:
        FormatError: Empty, another count of numbers, something that is no number (with the line's number).
    """
    lines = read_lines(path)
    if not lines:
        raise FormatError(path, f"is empty; wanted {what}")
    count = len(lines[0][1])
    wanted = " or ".join(map(str, counts))
    for number, words in lines:
        if len(words) not in counts:
            raise FormatError(
                path, f"line {number} has {len(words)} numbers; wanted {what}, {wanted} a line"
            )
        if len(words) != count:
            raise FormatError(
                path, f"line {number} has {len(words)} numbers, the lines before it {count}"
            )
    return np.array([[parse(path, number, w) for w in words] for number, words in lines])


def read_matrix(path: DataPath, size: int) -> NDArray[np.float64]:
    """A ``[size, size]`` matrix, a row a line or all in one line. Raises FormatError."""
    what = f"a {size}x{size} matrix"
    rows = read_rows(path, (size, size * size), what)
    if rows.size != size * size:
        raise FormatError(
            path, f"has {len(rows)} lines of {rows.shape[1]} numbers; wanted {what}, row by row"
        )
    return rows.reshape(size, size)


def parse(path: DataPath, line: int, word: str) -> float:
    """One number. Raises FormatError with the line's number."""
    try:
        return float(word)
    except ValueError:
        if _NOT_FINITE.fullmatch(word):
            return float("nan")
        raise FormatError(path, f"line {line}: {word[:40]!r} is not a number") from None
