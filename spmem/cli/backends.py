"""The backends that spmem can use, each with a tiny piece of real work that checks whether it works here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Check(NamedTuple):
    """A backend: what it is for, how it is installed, and a tiny piece of its work that reports what it found."""

    name: str
    distributions: tuple[str, ...]
    module: str
    purpose: str
    install: str
    work: Callable[[], str]


class BackendUnavailable(Exception):
    """The package is installed, and this machine or build lacks what it needs."""


def _check_torch() -> str:
    import torch

    assert float(torch.eye(3).inverse().sum()) == 3
    return f"CPU, {torch.get_num_threads()} threads"


def _check_cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        raise BackendUnavailable("no CUDA device" if torch.version.cuda else "torch is a CPU build")
    assert float(torch.eye(3, device="cuda").inverse().sum()) == 3
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"


def _check_numba() -> str:
    import numpy as np
    import torch

    from spmem.retrieval.greedy import shown

    assert shown(np.ones((1, 2), bool), np.array([1, 2]))[0] == 3
    return f"{torch.get_num_threads()} threads"


def _faiss_cpu() -> str:
    import faiss
    import numpy as np

    index = faiss.IndexFlatIP(8)
    index.add(np.eye(8, dtype=np.float32))
    assert index.search(np.eye(8, dtype=np.float32), 1)[1].ravel().tolist() == list(range(8))
    return f"searches; {faiss.omp_get_max_threads()} threads"


def _faiss_gpu() -> str:
    import faiss
    import numpy as np

    if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        raise BackendUnavailable("this build of faiss has no GPU, or the machine has none")
    index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, faiss.IndexFlatIP(8))
    index.add(np.eye(8, dtype=np.float32))
    assert index.search(np.eye(8, dtype=np.float32), 1)[1].ravel().tolist() == list(range(8))
    return f"{faiss.get_num_gpus()} GPU"


def _check_gsplat() -> str:
    import gsplat
    import torch

    at = torch.tensor([[0.0, 0.0, 2.0]], device="cuda")
    one = torch.ones(1, device="cuda")
    K = torch.tensor([[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]], device="cuda")
    image, *_ = gsplat.rasterization(
        at, torch.tensor([[1.0, 0, 0, 0]], device="cuda"), one[:, None].expand(1, 3) * 0.1, one,
        one[:, None].expand(1, 3), torch.eye(4, device="cuda")[None], K, 16, 16,
    )  # fmt: skip
    assert float(image.max()) > 0.5
    return "rasterizes on CUDA"


def _check_pytorch3d() -> str:
    import torch
    from pytorch3d.ops import knn_points

    points = torch.eye(3)[None]
    assert knn_points(points, points).idx[0, :, 0].tolist() == [0, 1, 2]
    return "finds neighbours"


def _check_xformers() -> str:
    import torch
    from xformers.ops import memory_efficient_attention

    x = torch.ones(1, 16, 1, 32, device="cuda", dtype=torch.float16)
    assert torch.allclose(memory_efficient_attention(x, x, x), x)
    return "attends on CUDA"


def _check_zarr() -> str:
    import numpy as np
    import zarr
    from zarr.storage import MemoryStore

    group = zarr.create_group(MemoryStore())
    group.create_array("a", shape=(3,), dtype=np.float32)[:] = np.arange(3)
    assert np.asarray(group["a"]).tolist() == [0, 1, 2]
    return "writes and reads"


def _check_icechunk() -> str:
    import icechunk
    import zarr

    repository = icechunk.Repository.create(icechunk.in_memory_storage())
    session = repository.writable_session("main")
    zarr.create_group(session.store)
    return f"commits ({session.commit('a commit')[:8]})"


def _check_av() -> str:
    import io

    import av
    import numpy as np

    with av.open(io.BytesIO(), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        packets = [*stream.encode(frame), *stream.encode()]
    assert packets
    return "encodes H.264"


def _check_diffusers() -> str:
    from importlib import import_module

    diffusers = import_module("diffusers")  # what it has, it finds out when asked
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(2)
    assert len(scheduler.timesteps) == 2
    return f"has {diffusers.WanVACEPipeline.__name__}"


CHECKS = (
    Check("torch", ("torch",), "torch", "tensors", "pip install torch", _check_torch),
    Check(
        "torch CUDA", ("torch",), "torch", "the GPU", "pip install torch, a CUDA build (pytorch.org)", _check_cuda,
    ),
    Check("numba", ("numba",), "numba", "kernels on the CPU", "pip install numba", _check_numba),
    Check("zarr", ("zarr",), "zarr", "arrays on disk", "pip install zarr", _check_zarr),
    Check("icechunk", ("icechunk",), "icechunk", "commits and snapshots", "pip install icechunk", _check_icechunk),
    Check(
        "faiss", ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12"), "faiss", "search in large banks",
        "pip install 'spmem[cpu]'", _faiss_cpu,
    ),
    Check(
        "faiss GPU", ("faiss-gpu", "faiss-gpu-cu12", "faiss-cpu"), "faiss", "search on the GPU",
        "pip install 'spmem[gpu]'", _faiss_gpu,
    ),
    Check("gsplat", ("gsplat",), "gsplat", "rendering on the GPU", "pip install 'spmem[gpu]'", _check_gsplat),
    Check(
        "pytorch3d", ("pytorch3d",), "pytorch3d", "a point renderer",
        "from source: github.com/facebookresearch/pytorch3d", _check_pytorch3d,
    ),
    Check("xformers", ("xformers",), "xformers", "attention on the GPU", "pip install 'spmem[gpu]'", _check_xformers),
    Check("diffusers", ("diffusers",), "diffusers", "video pipelines", "pip install 'spmem[diffusers]'", _check_diffusers),
    Check("av", ("av",), "av", "videos, in and out", "pip install 'spmem[formats]'", _check_av),
)  # fmt: skip
