"""Colour and depth images from files, by Pillow; every error names the file."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from spmem.camera import Camera
from spmem.errors import FormatError
from spmem.integrations.readers.arrays import read_npy
from spmem.integrations.readers.files import DataPath

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
PIXELS = 1 << 27
"""Most pixels of an image; a larger one is refused before memory is taken for it."""

# Pillow would try all that it knows, and gives PostScript to Ghostscript to be run.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM")
_COLOUR_MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr")
_BROKEN = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
)


def list_images(folder: DataPath, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[DataPath]:
    """The images of a folder by name, numbers in names by value (``9.png`` before ``10.png``).

    Raises FormatError if the folder is missing, leads out of the data set or holds none.
    """
    if not folder.is_dir():
        raise FormatError(folder, "is missing; wanted a folder of images")
    found = [p for p in folder.entries() if p.suffix in suffixes and p.name[0] != "."]
    if not found:
        raise FormatError(folder, f"holds no images ({', '.join(suffixes)})")
    return sorted(found, key=lambda p: by_number(p.name))


def by_number(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key of a name in which digits count by their value.

    Example:
        >>> sorted(["10.png", "9.png"], key=by_number)
        ['9.png', '10.png']
    """
    parts = (part for part in re.split(r"([0-9]+)", name) if part)
    # The longer of two numbers is the larger; Python makes no int of thousands of digits.
    return tuple(
        (len(part.lstrip("0")), part.lstrip("0"))
        if part[0] in "0123456789"
        else (sys.maxsize, part)
        for part in parts
    )


def image_size(path: DataPath) -> tuple[int, int]:
    """Width and height, from the header alone. Raises FormatError."""
    with _opened(path) as image:
        return image.size


def read_rgb(path: DataPath, camera: Camera) -> UInt8[Tensor, "h w 3"]:
    """An 8-bit colour image of the camera's size; alpha is dropped, EXIF rotation not applied.

    Raises FormatError where it is missing, broken, of another bit depth or size.
    """
    with _opened(path) as image:
        if image.mode not in _COLOUR_MODES:
            raise FormatError(path, f"is {_kind(image)}; wanted an 8-bit colour image")
        if image.size != (camera.width, camera.height):
            raise FormatError(
                path,
                f"is {image.width}x{image.height}, its camera {camera.width}x{camera.height}: "
                "the intrinsics belong to another resolution of the images",
            )
        return torch.from_numpy(np.array(image.convert("RGB")))


def read_depth(
    path: DataPath, camera: Camera, scale: float, *, none: int | None = None
) -> Float[Tensor, "h w"]:
    """A depth image as float32 z-depth in world units, 0 = none, in the camera's size.

    A 16-bit grey image, or ``.npy`` with numbers. ``scale`` is the world units of one step (0.001 where a
    step is a millimetre and the world in metres); steps of ``none`` become 0. A depth image of another
    resolution but the same aspect is sampled at the pixel centres (nearest: a mean over an edge is a
    depth that nobody saw).

    Raises FormatError where it is missing, broken, of another bit depth, aspect or sign.
    """
    steps = _load_npy(path) if path.suffix == ".npy" else _load_steps(path)
    depth = np.float32(scale) * steps.astype(np.float32)
    if none is not None:
        depth[steps == none] = 0
    return fit_depth(path, depth, camera)


def fit_depth(path: DataPath, depth: NDArray[np.float32], camera: Camera) -> Float[Tensor, "h w"]:
    """Depth ``[h, w]`` checked, and sampled to the camera's size. Raises FormatError."""
    if not bool(np.isfinite(depth).all()) or float(depth.min(initial=0)) < 0:
        raise FormatError(path, "has depth that is negative or not finite; 0 means none")
    h, w = depth.shape
    if (h, w) == (camera.height, camera.width):
        return torch.from_numpy(np.ascontiguousarray(depth))
    if abs(w / h * camera.height / camera.width - 1) > 0.02:
        raise FormatError(
            path, f"is {w}x{h}, its image {camera.width}x{camera.height}: the aspects differ"
        )
    y = ((np.arange(camera.height) + 0.5) * h / camera.height).astype(np.int64)
    x = ((np.arange(camera.width) + 0.5) * w / camera.width).astype(np.int64)
    return torch.from_numpy(depth[y[:, None], x[None, :]])


def too_large(width: int, height: int) -> str:
    """What an error says of an image beyond the limit."""
    return f"is {width}x{height}; the limit is {PIXELS:,} pixels"


@contextmanager
def _opened(path: DataPath) -> Iterator[Image.Image]:
    """An image of which only the header is read yet, of a kind and size that readers take."""
    try:
        with path.open() as file, Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > PIXELS:
                raise FormatError(path, too_large(image.width, image.height))
            yield image
    except FormatError:
        raise
    except Image.DecompressionBombError:
        raise FormatError(path, f"is of more than {PIXELS:,} pixels, which is the limit") from None
    except _BROKEN as error:
        raise FormatError(path, f"is not a readable image: {error}") from error


def _load_steps(path: DataPath) -> NDArray[Any]:
    with _opened(path) as image:
        if image.mode not in ("I;16", "I;16B", "I;16L", "I"):
            raise FormatError(path, f"is {_kind(image)}; wanted a 16-bit grey depth image")
        return np.array(image)


def _load_npy(path: DataPath) -> NDArray[Any]:
    depth = read_npy(path)
    if depth.ndim == 3 and depth.shape[-1] == 1:
        depth = depth[..., 0]
    if depth.ndim != 2 or depth.dtype.kind not in "fiu":
        raise FormatError(
            path, f"holds {depth.dtype} of shape {list(depth.shape)}; wanted numbers [H, W]"
        )
    return depth


def _kind(image: Image.Image) -> str:
    kinds = {"L": "8-bit grey", "1": "black and white", "P": "a palette image", "F": "32-bit float"}
    if image.mode.startswith("I"):
        return "16-bit or 32-bit grey"
    return kinds.get(image.mode, f"8-bit {image.mode}")
