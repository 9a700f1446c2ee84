"""Keyframes as Zarr arrays on Icechunk, in a folder or an object store."""

from spmem.stores.keyframes.zarr.bank import ZarrKeyframes

__all__ = ["ZarrKeyframes"]
