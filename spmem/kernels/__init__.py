"""Fusion and rendering kernels: numba on CPU, and the plain torch twin that also runs on CUDA."""
