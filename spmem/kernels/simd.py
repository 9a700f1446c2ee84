"""Eight pixels at once: a tile of 4 x 2 pixels as one value inside numba kernels.

Numba's own vectorisation gives up on loops as short as a disc is wide. Here a tile is a numba type that LLVM knows as
a vector of eight, on whatever registers the machine has. Arithmetic and comparison take tiles and float32 numbers; the
rest are the functions below. Images that tiles are read from and written to need ``PAD`` more columns and one more row
than what is asked of them, as a tile may start at any pixel.

Numba's disk cache does not see a change in this file: clear it (``__pycache__``) after one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numba.extending
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import models, register_model

WIDE, TALL = 4, 2
LANES = WIDE * TALL
PAD = WIDE
"""Columns that an image needs on its right, beside one row below."""
FLAGS = ("nsz", "arcp", "contract", "afn", "reassoc")

_ELEMENT = {"float32": ir.FloatType(), "int32": ir.IntType(32), "bool": ir.IntType(1)}
_INDEX = ir.IntType(32)


class Tile(types.Type):
    """Eight float32, int32 or booleans."""

    def __init__(self, element: str) -> None:
        self.element = element
        super().__init__(f"tile of {element}")

    def vector(self, lanes: int = LANES) -> ir.VectorType:
        """As LLVM has it."""
        return ir.VectorType(_ELEMENT[self.element], lanes)


FLOATS, INTS, MASK = Tile("float32"), Tile("int32"), Tile("bool")


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that kernels call, given by the LLVM code it stands for; numba's own, with a type that checkers know."""
    made: Callable[..., Any] = numba.extending.intrinsic(function)
    return made


@register_model(Tile)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, tile: Tile) -> None:
        super().__init__(manager, tile, tile.vector())


def _lanes(*lanes: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(_INDEX, len(lanes)), list(lanes))


def _spread(builder: Any, value: Any) -> Any:
    vector = ir.VectorType(value.type, LANES)
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(_INDEX, 0))
    return builder.shuffle_vector(one, undefined, _lanes(*[0] * LANES))


def _as_tiles(builder: Any, values: Any, kinds: Any) -> list[Any]:
    return [
        value if isinstance(kind, Tile) else _spread(builder, value)
        for value, kind in zip(values, kinds, strict=True)
    ]


def _operator(
    of: Any, tile: Tile, number: Any, result: Tile, emit: Callable[[Any, Any, Any], Any]
) -> None:
    """Teach numba an operator between tiles, and between a tile and a number."""
    pairs = [(tile, tile), (tile, number), (number, tile)]
    name = f"{of.__name__}_{tile.element}"
    cases = [signature(result, *pair) for pair in pairs]
    register: Any = infer_global
    register(of)(type(name, (ConcreteTemplate,), {"cases": cases}))

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *_as_tiles(builder, args, sig.args))

    for pair in pairs:
        lower_builtin(of, *pair)(lower)


def _arithmetic(method: str) -> Callable[[Any, Any, Any], Any]:
    return lambda builder, a, b: getattr(builder, method)(a, b, flags=FLAGS)


def _comparison(sign: str) -> Callable[[Any, Any, Any], Any]:
    return lambda builder, a, b: builder.fcmp_ordered(sign, a, b)


for _of, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _operator(_of, FLOATS, types.float32, FLOATS, _arithmetic(_method))
for _of, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
):
    _operator(_of, FLOATS, types.float32, MASK, _comparison(_sign))
_operator(
    operator.eq, INTS, types.int32, MASK, lambda builder, a, b: builder.icmp_signed("==", a, b)
)
_operator(operator.and_, MASK, types.boolean, MASK, lambda builder, a, b: builder.and_(a, b))
_operator(operator.or_, MASK, types.boolean, MASK, lambda builder, a, b: builder.or_(a, b))


@intrinsic
def across(typing: Any) -> Any:
    """The pixels' columns: 0, 1, 2, 3, 0, 1, 2, 3."""
    columns = [float(lane % WIDE) for lane in range(LANES)]
    return FLOATS(), lambda context, builder, sig, args: ir.Constant(FLOATS.vector(), columns)


@intrinsic
def down(typing: Any) -> Any:
    """The pixels' rows: 0, 0, 0, 0, 1, 1, 1, 1."""
    rows = [float(lane // WIDE) for lane in range(LANES)]
    return FLOATS(), lambda context, builder, sig, args: ir.Constant(FLOATS.vector(), rows)


@intrinsic
def ramp(typing: Any) -> Any:
    """0, 1, … 7, for eight values in a row."""
    numbers = [float(lane) for lane in range(LANES)]
    return FLOATS(), lambda context, builder, sig, args: ir.Constant(FLOATS.vector(), numbers)


@intrinsic
def spread(typing: Any, number: Any) -> Any:
    """A float32 or int32 in all eight places."""
    result = INTS if number == types.int32 else FLOATS
    return result(number), lambda context, builder, sig, args: _spread(builder, args[0])


@intrinsic
def where(typing: Any, mask: Any, yes: Any, no: Any) -> Any:
    """``yes`` where the mask holds, else ``no``; tiles or numbers."""
    result = INTS if INTS in (yes, no) else FLOATS

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        yes, no = _as_tiles(builder, args[1:], sig.args[1:])
        return builder.select(args[0], yes, no)

    return result(mask, yes, no), emit


@intrinsic
def least(typing: Any, a: Any, b: Any) -> Any:
    """The smaller of two tiles, place by place; ``b`` where one is NaN."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return FLOATS(a, b), emit


def _over_lanes(name: str) -> Callable[[Any, Any, Any, Any], Any]:
    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.FloatType(), [FLOATS.vector()])
        name_ = f"llvm.vector.reduce.{name}.v{LANES}f32"
        called = cgutils.get_or_insert_function(builder.module, kind, name_)
        return builder.call(called, args)

    return emit


@intrinsic
def lowest(typing: Any, tile: Any) -> Any:
    """The smallest of the eight numbers."""
    return types.float32(tile), _over_lanes("fmin")


@intrinsic
def highest(typing: Any, tile: Any) -> Any:
    """The largest of the eight numbers."""
    return types.float32(tile), _over_lanes("fmax")


def _by_name(name: str) -> Callable[[Any, Any, Any, Any], Any]:
    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = FLOATS.vector()
        kind = ir.FunctionType(vector, [vector])
        called = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")
        return builder.call(called, args)

    return emit


@intrinsic
def magnitude(typing: Any, tile: Any) -> Any:
    """Absolute values."""
    return FLOATS(tile), _by_name("fabs")


@intrinsic
def root(typing: Any, tile: Any) -> Any:
    """Square roots."""
    return FLOATS(tile), _by_name("sqrt")


@intrinsic
def ceiling(typing: Any, tile: Any) -> Any:
    """The next whole numbers upwards."""
    return FLOATS(tile), _by_name("ceil")


@intrinsic
def floor(typing: Any, tile: Any) -> Any:
    """The next whole numbers downwards."""
    return FLOATS(tile), _by_name("floor")


@intrinsic
def whole(typing: Any, tile: Any) -> Any:
    """The int32 towards zero."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fptosi(args[0], INTS.vector())

    return INTS(tile), emit


@intrinsic
def some(typing: Any, mask: Any) -> Any:
    """Whether the mask holds anywhere."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = ir.IntType(LANES)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], bits), ir.Constant(bits, 0))

    return types.boolean(mask), emit


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
        return builder.shuffle_vector(*rows, _lanes(*range(LANES)))

    return _of_array(image)(image, types.StarArgTuple(index)), emit


@intrinsic
def store(typing: Any, image: Any, tile: Any, *index: Any) -> Any:
    """Write a tile to ``image[…, y, x]`` and what follows."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        image, tile, index = args
        for row, pointer in enumerate(
            _runs(context, builder, sig, image, index, rows=TALL, lanes=WIDE)
        ):
            part = _lanes(*range(row * WIDE, (row + 1) * WIDE))
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
        width = builder.trunc(cgutils.unpack_tuple(builder, struct.shape)[-1], _INDEX)
        place = builder.add(builder.mul(y, _spread(builder, width)), x)
        gathered = ir.Constant(FLOATS.vector(), ir.Undefined)
        for lane in range(LANES):
            at = builder.sext(builder.extract_element(place, ir.Constant(_INDEX, lane)), zero.type)
            value = builder.load(builder.gep(first, [at]), align=4)
            gathered = builder.insert_element(gathered, value, ir.Constant(_INDEX, lane))
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
        parts = [
            builder.shuffle_vector(run, run, _lanes(*range(k, 3 * LANES, 3))) for k in range(3)
        ]
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
                    rows[i] = builder.shuffle_vector(a, b, _lanes(*low))
                    rows[i | step] = builder.shuffle_vector(a, b, _lanes(*high))
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
        wide = _lanes(*range(2 * LANES))
        xy, zz = builder.shuffle_vector(x, y, wide), builder.shuffle_vector(z, z, wide)
        mixed = [column * LANES + lane for lane in range(LANES) for column in range(3)]
        run = builder.bitcast(pointer, FLOATS.vector(3 * LANES).as_pointer())
        builder.store(builder.shuffle_vector(xy, zz, _lanes(*mixed)), run, align=4)
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
