"""What a memory keeps beside its keyframes, so that it opens as it was: its parts and its configuration.

The keyframes are the truth. A part that is a cache is made again if its group is damaged or of other keyframes. The map
also holds frames that did not become keyframes; after a crash it is as of its last checkpoint, with the keyframes that
were committed since fused again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from spmem.config import MemoryConfig
from spmem.errors import CorruptMemoryError
from spmem.protocols import Kept, KeyframeStore, Part

CONFIG, PARTS, MERGED = RESERVED = "config", "parts", "merged"
"""Groups that are no parts: the configuration, the names of all parts that were ever kept, and the uids of merged keyframes."""

WRONG = (LookupError, ValueError, TypeError, RuntimeError, OverflowError, AttributeError)
"""What parts raise for arrays that are not theirs."""


def save(parts: Iterable[Part], config: MemoryConfig, bank: KeyframeStore) -> None:
    """Write all groups; durable with the bank's next commit."""
    names = []
    for part in parts:
        kept = part.arrays()
        if kept is not None:
            bank.write_arrays(part.name, *kept)
            names.append(part.name)
    bank.write_arrays(CONFIG, {}, config.to_json())
    bank.write_arrays(PARTS, {}, {"names": sorted({*names, *stored_parts(bank)})})


def restore(part: Part, bank: KeyframeStore) -> None:
    """Give a new part what was kept of it.

    Raises:
        CorruptMemoryError: The group is damaged or does not fit together, and the part is no cache.
    """
    try:
        kept = bank.read_arrays(part.name)
    except CorruptMemoryError as error:
        if not part.cache:
            raise
        warnings.warn(f"{error}; it is made anew here", stacklevel=2)
        kept = None
    try:
        part.restore(kept if kept is not None and kept[0] else None)
    except WRONG as error:
        if not part.cache:
            raise CorruptMemoryError(
                f"the stored {part.name!r} does not fit together ({error}); `spmem verify --repair` drops it, and makes "
                "again what the keyframes can give"
            ) from error
        part.restore(None)


def clear(parts: Iterable[Part], bank: KeyframeStore) -> None:
    """Empty the groups of all that keyframes make again, those of parts that are not installed here too; write the others."""
    stay = [part for part in parts if not part.derived]
    for name in {*stored_parts(bank), *(part.name for part in parts)}:
        if name not in {part.name for part in stay}:
            drop(name, bank)
    for part in stay:
        kept: Kept | None = part.arrays()
        if kept is not None:
            bank.write_arrays(part.name, *kept)


def drop(name: str, bank: KeyframeStore) -> None:
    """Empty a group, so that the next opening makes its part again."""
    if bank.read_arrays(name) is not None:
        bank.write_arrays(name, {}, {})


def stored_parts(bank: KeyframeStore) -> list[str]:
    """The names of all parts that were ever kept in a bank."""
    stored = bank.read_arrays(PARTS)
    names = [] if stored is None else stored[1].get("names", [])
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def stored_config(bank: KeyframeStore) -> MemoryConfig | None:
    """The configuration that a bank was written with. Raises InputError if this version does not understand it."""
    stored = bank.read_arrays(CONFIG)
    return None if stored is None else MemoryConfig.from_json(dict(stored[1]))
