"""The episodic bank: keyframes in RAM, or durable as Zarr on Icechunk."""

from spmem.stores.keyframes.durable import ZarrKeyframes
from spmem.stores.keyframes.ram import RamKeyframes

__all__ = ["RamKeyframes", "ZarrKeyframes"]
