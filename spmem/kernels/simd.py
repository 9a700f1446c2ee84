"""Eight pixels at once: a tile of 4 x 2 pixels as one value inside numba kernels.

Numba's own vectorisation gives up on loops as short as a disc is wide. Here a tile is a numba type that LLVM knows as
a vector of eight, on whatever registers the machine has. Arithmetic and comparison take tiles and float32 numbers; the
rest are the functions below; ``simd_memory`` reads and writes tiles.

What it earns: plain numba's time over that of tiles, same input (a house, 640x480), one thread, calls in turn, least of 30 of
each: 1.42 for ``prepare_numba.planes`` (2,438 against 1,721 µs), 2.65 for ``discs_numba.farthest`` (435 against 164 µs),
2.54 for ``raster_numba.nearest`` (2,668 against 1,052 µs). Below 1.3 a function is to be plain numba.
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
INDEX = ir.IntType(32)


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


def order(*lanes: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(INDEX, len(lanes)), list(lanes))


def splat(builder: Any, value: Any) -> Any:
    vector = ir.VectorType(value.type, LANES)
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(INDEX, 0))
    return builder.shuffle_vector(one, undefined, order(*[0] * LANES))


def _as_tiles(builder: Any, values: Any, kinds: Any) -> list[Any]:
    return [
        value if isinstance(kind, Tile) else splat(builder, value)
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
    return result(number), lambda context, builder, sig, args: splat(builder, args[0])


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
