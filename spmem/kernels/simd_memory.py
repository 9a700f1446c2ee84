"""Tiles from memory and back: from images, from records that lie eight in a run, transposed or gathered.

Images need ``PAD`` more columns and one more row than what is asked of them, as a tile may start at any
pixel.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from spmem.kernels.simd import (
    FLAGS,
    FLOATS,
    INDEX,
    INTS,
    LANES,
    TALL,
    WIDE,
    Tile,
    intrinsic,
    order,
    splat,
)


def _of_array(array: Any) -> Tile:
    return FLOATS if array.dtype == types.float32 else INTS


def _runs(
    context: Any, builder: Any, sig: Any, array: Any, index: Any, *, rows: int, lanes: int
) -> list[Any]:
    """Pointers to the values that follow an index in the last dimension; of so many rows, by the last but one."""
    kind, kinds = sig.args[0], sig.args[-1]
    at = [
        context.cast(builder, value, of, types.intp)
        for value, of in zip(cgutils.unpack_tuple(builder, index), kinds, strict=True)
    ]
    struct = context.make_array(kind)(context, builder, array)
    pointers = []
    for row in range(rows):
        if row:
            at[-2] = builder.add(at[-2], ir.Constant(at[-2].type, 1))
        pointer = cgutils.get_item_pointer(context, builder, kind, struct, at, wraparound=False)
        pointers.append(builder.bitcast(pointer, _of_array(kind).vector(lanes).as_pointer()))
    return pointers


@intrinsic
def load(typing: Any, image: Any, *index: Any) -> Any:
    """The tile that starts at ``image[…, y, x]``."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointers = _runs(context, builder, sig, *args, rows=TALL, lanes=WIDE)
        rows = [builder.load(pointer, align=4) for pointer in pointers]
        return builder.shuffle_vector(*rows, order(*range(LANES)))

    return _of_array(image)(image, types.StarArgTuple(index)), emit


@intrinsic
def store(typing: Any, image: Any, tile: Any, *index: Any) -> Any:
    """Write a tile to ``image[…, y, x]`` and what follows."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        image, tile, index = args
        for row, pointer in enumerate(
            _runs(context, builder, sig, image, index, rows=TALL, lanes=WIDE)
        ):
            part = order(*range(row * WIDE, (row + 1) * WIDE))
            builder.store(builder.shuffle_vector(tile, tile, part), pointer, align=4)
        return context.get_dummy_value()

    return types.none(image, tile, types.StarArgTuple(index)), emit


@intrinsic
def take(typing: Any, rows: Any, *index: Any) -> Any:
    """The eight values of ``rows`` from ``index`` on, along its last dimension."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (pointer,) = _runs(context, builder, sig, *args, rows=1, lanes=LANES)
        return builder.load(pointer, align=4)

    return _of_array(rows)(rows, types.StarArgTuple(index)), emit


@intrinsic
def gather(typing: Any, images: Any, plane: Any, y: Any, x: Any) -> Any:
    """``images[plane, y, x]`` at eight pixels, given by tiles of int32; ``images`` is C-contiguous."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, plane, y, x = args
        struct = context.make_array(sig.args[0])(context, builder, array)
        zero = ir.Constant(plane.type, 0)
        first = cgutils.get_item_pointer(
            context, builder, sig.args[0], struct, [plane, zero, zero], wraparound=False
        )
        width = builder.trunc(cgutils.unpack_tuple(builder, struct.shape)[-1], INDEX)
        place = builder.add(builder.mul(y, splat(builder, width)), x)
        gathered = ir.Constant(FLOATS.vector(), ir.Undefined)
        for lane in range(LANES):
            at = builder.sext(builder.extract_element(place, ir.Constant(INDEX, lane)), zero.type)
            value = builder.load(builder.gep(first, [at]), align=4)
            gathered = builder.insert_element(gathered, value, ir.Constant(INDEX, lane))
        return gathered

    return FLOATS(images, types.intp, y, x), emit


@intrinsic
def put(typing: Any, rows: Any, eight: Any, *index: Any) -> Any:
    """Write eight values to ``rows`` from ``index`` on, along its last dimension."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows, eight, index = args
        (pointer,) = _runs(context, builder, sig, rows, index, rows=1, lanes=LANES)
        builder.store(eight, pointer, align=4)
        return context.get_dummy_value()

    return types.none(rows, eight, types.StarArgTuple(index)), emit


@intrinsic
def take_rows(typing: Any, table: Any, *index: Any) -> Any:
    """Of eight rows, from the last but one index on, the eight values from the last index on."""
    result = types.UniTuple(FLOATS, LANES)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointers = _runs(context, builder, sig, *args, rows=LANES, lanes=LANES)
        rows = [builder.load(pointer, align=4) for pointer in pointers]
        return context.make_tuple(builder, result, rows)

    return result(table, types.StarArgTuple(index)), emit


@intrinsic
def put_rows(typing: Any, table: Any, rows: Any, *index: Any) -> Any:
    """Write eight times eight values, as :func:`take_rows` takes them."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        table, rows, index = args
        pointers = _runs(context, builder, sig, table, index, rows=LANES, lanes=LANES)
        for row, pointer in zip(cgutils.unpack_tuple(builder, rows), pointers, strict=True):
            builder.store(row, pointer, align=4)
        return context.get_dummy_value()

    return types.none(table, rows, types.StarArgTuple(index)), emit


@intrinsic
def columns3(typing: Any, table: Any, row: Any) -> Any:
    """The three columns of eight rows of a table [n, 3] of float32 or uint8, from a row (int64) on, as float32."""
    result, bytes_ = types.UniTuple(FLOATS, 3), table.dtype == types.uint8
    element = ir.IntType(8) if bytes_ else ir.FloatType()

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        index = [args[1], ir.Constant(args[1].type, 0)]
        struct = context.make_array(sig.args[0])(context, builder, args[0])
        pointer = cgutils.get_item_pointer(
            context, builder, sig.args[0], struct, index, wraparound=False
        )
        vector = ir.VectorType(element, 3 * LANES)
        run = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=1)
        parts = [builder.shuffle_vector(run, run, order(*range(k, 3 * LANES, 3))) for k in range(3)]
        if bytes_:
            parts = [builder.uitofp(part, FLOATS.vector()) for part in parts]
        return context.make_tuple(builder, result, parts)

    return result(table, row), emit


@intrinsic
def transpose(typing: Any, *tiles: Any) -> Any:
    """Eight tiles, the k-th of them the k-th places of the eight given."""
    result = types.UniTuple(FLOATS, LANES)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = cgutils.unpack_tuple(builder, args[0])
        zipped = (0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15)
        halves = (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)
        for step, (low, high) in ((2, zipped), (1, zipped), (4, halves)):  # one instruction each
            for i in range(LANES):
                if not i & step:
                    a, b = rows[i], rows[i | step]
                    rows[i] = builder.shuffle_vector(a, b, order(*low))
                    rows[i | step] = builder.shuffle_vector(a, b, order(*high))
        return context.make_tuple(builder, result, rows)

    return result(types.StarArgTuple(tiles)), emit


@intrinsic
def put_columns3(typing: Any, table: Any, row: Any, x: Any, y: Any, z: Any) -> Any:
    """Write the three columns of eight rows of a table [n, 3], from a row (int64) on."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        table, row, x, y, z = args
        index = [row, ir.Constant(row.type, 0)]
        struct = context.make_array(sig.args[0])(context, builder, table)
        pointer = cgutils.get_item_pointer(
            context, builder, sig.args[0], struct, index, wraparound=False
        )
        wide = order(*range(2 * LANES))
        xy, zz = builder.shuffle_vector(x, y, wide), builder.shuffle_vector(z, z, wide)
        mixed = [column * LANES + lane for lane in range(LANES) for column in range(3)]
        run = builder.bitcast(pointer, FLOATS.vector(3 * LANES).as_pointer())
        builder.store(builder.shuffle_vector(xy, zz, order(*mixed)), run, align=4)
        return context.get_dummy_value()

    return types.none(table, row, x, y, z), emit


@intrinsic
def add_to(typing: Any, rows: Any, eight: Any, *index: Any) -> Any:
    """Add eight numbers to the eight in a row from ``rows[index]`` on."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows, eight, index = args
        (pointer,) = _runs(context, builder, sig, rows, index, rows=1, lanes=LANES)
        sum_ = builder.fadd(builder.load(pointer, align=4), eight, flags=FLAGS)
        builder.store(sum_, pointer, align=4)
        return context.get_dummy_value()

    return types.none(rows, eight, types.StarArgTuple(index)), emit
