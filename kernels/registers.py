"""Four numbers in a vector register, as a type that compiled code knows.

The compiler makes vector instructions of a loop whose turns don't wait for one another, if its arrays don't overlap, which it asks at
each beginning, and leaves what is no multiple of its step to a second loop. Of sums it makes none, nor of what stands side by side
within a turn. Where a pass has a few numbers at a time, that is most of its work. So it says what it wants:

    total = splat(0.0)
    for f in range(0, len(a), LENGTH):
        total = fma(load(a, (f,)), load(b, (f,)), total)

A register stands wherever a formula has a number: +, -, *, /, comparisons (1 where they hold, else 0), `abs`, numpy's `abs`, `sign`,
`maximum`, `minimum`, `where` and `clip`, alone or with plain numbers; for all else there is `of_registers`.

Rules: every operation is IEEE's, number by number, and a fused multiply-add its own, with one rounding: the same bits on every
machine that has it (see `IS_FUSED`), and where registers are narrower two do for one. Indices aren't checked; arrays are in C-order.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, untyped-decorator, attr-defined"
from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import extending
from numba.core import cgutils, types
from numba.core.errors import NumbaError, TypingError
from numba.extending import models, overload, register_model

from kernels.contract import Array

intrinsic: Any = extending.intrinsic  # typed as what takes the typing context, too

INLINED: Any = {"error_model": "numpy", "forceinline": True, "_nrt": False}

LENGTH = 4
_LINE = 64
"""Bytes that a processor fetches together: a register that lies across two of them takes two turns."""


def zeros(shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
    """Zeros that begin where a line of the processor's memory does."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    whole = np.zeros(size + _LINE, np.uint8)
    first = -whole.ctypes.data % _LINE
    found: Array = whole[first : first + size].view(kind).reshape(shape)
    return found


class Register(types.Type):
    """Four numbers of one kind, float64 or float32."""

    def __init__(self, kind: types.Float) -> None:
        self.kind = kind
        super().__init__(f"Register({kind})")


@register_model(Register)
class _RegisterModel(models.PrimitiveModel):
    def __init__(self, manager: Any, register: Register) -> None:
        kind = manager.lookup(register.kind).get_value_type()
        super().__init__(manager, register, ir.VectorType(kind, LENGTH))


_NUMBERS = (types.Float, types.Integer, types.Boolean)


def _common(*given: Any) -> Any:
    """The type of what comes of numbers and registers; None where it isn't for us to say."""
    registers = [one for one in given if isinstance(one, Register)]
    if not all(isinstance(one, (Register, *_NUMBERS)) for one in given):
        return None
    if registers:
        return registers[0] if all(one == registers[0] for one in registers) else None
    return types.float32 if all(one == types.float32 for one in given) else types.float64


def _as(context, builder, value, given, wanted):
    """A number or register as the type `wanted`."""
    if given == wanted:
        return value
    if isinstance(wanted, Register):
        return _filled(context, builder, _as(context, builder, value, given, wanted.kind), wanted)
    if isinstance(given, types.Boolean):
        return builder.uitofp(value, context.get_value_type(wanted))
    return context.cast(builder, value, given, wanted)


def _filled(context, builder, number, kind):
    register = ir.Constant(context.get_value_type(kind), ir.Undefined)
    for place in range(LENGTH):
        register = builder.insert_element(register, number, _place(place))
    return register


def _place(place: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), place)


def _pointwise(emit: Callable[..., Any], count: int) -> Any:
    """The intrinsic of `count` numbers or registers that `emit(builder, *values)` makes, all of one type."""

    def typed(_context, *given):
        kind = _common(*given)
        if kind is None:
            return None

        def made(context, builder, signature, args):
            return emit(
                builder,
                *(
                    _as(context, builder, arg, own, kind)
                    for arg, own in zip(args, signature.args, strict=True)
                ),
            )

        return kind(*given), made

    one, two, three = (
        lambda context, a: typed(context, a),
        lambda context, a, b: typed(context, a, b),
        lambda context, a, b, c: typed(context, a, b, c),
    )
    return intrinsic((one, two, three)[count - 1])


def _constant(kind: Any, number: float) -> ir.Constant:
    """An LLVM constant of a number's or a register's type."""
    return ir.Constant(kind, [number] * LENGTH if isinstance(kind, ir.VectorType) else number)


def of_bits(change: Callable[..., Any]) -> Any:
    """The intrinsic of one float64 or of a register of these whose result's bits are `change(builder, bits, constant)` of its argument's."""

    def emit(builder, x):
        whole: Any = ir.IntType(64)
        if isinstance(x.type, ir.VectorType):
            whole = ir.VectorType(whole, LENGTH)
        bits = change(builder, builder.bitcast(x, whole), lambda n: _constant(whole, n))
        return builder.bitcast(bits, x.type)

    return _pointwise(emit, 1)


def _intrinsic_of(builder, name, *values):
    kind = values[0].type
    one = kind.element if isinstance(kind, ir.VectorType) else kind
    bits = 64 if isinstance(one, ir.DoubleType) else 32
    shape = f"v{LENGTH}f{bits}" if isinstance(kind, ir.VectorType) else f"f{bits}"
    signature = ir.FunctionType(kind, [kind] * len(values))
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.{name}.{shape}")
    return builder.call(function, values)


def _compared(relation: str) -> Callable[..., Any]:
    def emit(builder, a, b):
        holds = builder.fcmp_ordered(relation, a, b)
        return builder.select(holds, _constant(a.type, 1.0), _constant(a.type, 0.0))

    return emit


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


def _smaller(builder, a, b):
    return builder.select(builder.fcmp_ordered("<", b, a), b, a)


def _maximum(builder, a, b):
    return builder.select(builder.fcmp_unordered("uno", b, b), b, _larger(builder, a, b))


def _minimum(builder, a, b):
    return builder.select(builder.fcmp_unordered("uno", b, b), b, _smaller(builder, a, b))


def _chosen(builder, condition, a, b):
    return builder.select(builder.fcmp_unordered("!=", condition, _constant(a.type, 0.0)), a, b)


def _fused(builder, a, b, c):
    return (
        _intrinsic_of(builder, "fma", a, b, c) if IS_FUSED else builder.fadd(builder.fmul(a, b), c)
    )


IS_FUSED = get_host_cpu_features().get("fma", True)
"""Processors of x86 before 2013 lack it, and the C library's takes thousands of times as long: there it is rounded twice."""
fma = _pointwise(_fused, 3)
"""fma(a, b, c): a · b + c, rounded once."""
larger = _pointwise(_larger, 2)
"""larger(a, b); a where that is no number."""
smaller = _pointwise(_smaller, 2)
"""smaller(a, b); a where that is no number."""
choose = _pointwise(_chosen, 3)
"""choose(condition, a, b): a where the condition isn't 0, else b."""
_absolute = _pointwise(lambda builder, a: _intrinsic_of(builder, "fabs", a), 1)
_negative = _pointwise(lambda builder, a: builder.fneg(a), 1)
_OPERATORS: dict[Any, Any] = {
    operator.add: _pointwise(lambda builder, a, b: builder.fadd(a, b), 2),
    operator.sub: _pointwise(lambda builder, a, b: builder.fsub(a, b), 2),
    operator.mul: _pointwise(lambda builder, a, b: builder.fmul(a, b), 2),
    operator.truediv: _pointwise(lambda builder, a, b: builder.fdiv(a, b), 2),
    operator.gt: _pointwise(_compared(">"), 2),
    operator.ge: _pointwise(_compared(">="), 2),
    operator.lt: _pointwise(_compared("<"), 2),
    operator.le: _pointwise(_compared("<="), 2),
    operator.eq: _pointwise(_compared("=="), 2),
    np.maximum: _pointwise(_maximum, 2),
    np.minimum: _pointwise(_minimum, 2),
}


def _overload(function: Any, ours: Any) -> None:
    """What a function of two does where one of them is a register."""

    @overload(function)
    def _(a, b):
        if Register in (type(a), type(b)):
            return lambda a, b: ours(a, b)
        return None


for _function, _ours in _OPERATORS.items():
    _overload(_function, _ours)
for _name in ("add", "sub", "mul", "truediv"):
    _overload(getattr(operator, f"i{_name}"), _OPERATORS[getattr(operator, _name)])


def _overload_one(function: Any, ours: Any) -> None:
    """What a function of one does to a register."""

    @overload(function)
    def _(a):
        return (lambda a: ours(a)) if isinstance(a, Register) else None


_overload_one(operator.neg, _negative)
_overload_one(abs, _absolute)
_overload_one(np.abs, _absolute)


@overload(np.sign)
def _sign(a):
    if isinstance(a, Register):
        return lambda a: choose(a == a, (a > 0.0) - (a < 0.0), a)
    return None


@overload(np.where)
def _where(condition, a, b):
    """Of plain numbers, too, of which numba would make arrays."""
    if all(isinstance(one, (Register, *_NUMBERS)) for one in (condition, a, b)):
        return lambda condition, a, b: choose(condition, a, b)
    return None


@overload(np.clip)
def _clip(a, lowest, highest):
    if all(isinstance(one, (Register, *_NUMBERS)) for one in (a, lowest, highest)):
        return lambda a, lowest, highest: smaller(larger(a, lowest), highest)
    return None


@intrinsic
def _at(_context, value, place):
    """The number at a place; a plain number, whatever the place."""

    def made(_, builder, signature, args):
        if isinstance(signature.args[0], Register):
            return builder.extract_element(args[0], args[1])
        return args[0]

    return (value.kind if isinstance(value, Register) else value)(value, place), made


@intrinsic
def _four(_context, a, b, c, d):
    """The register of four numbers."""

    def made(context, builder, signature, args):
        register = ir.Constant(context.get_value_type(signature.return_type), ir.Undefined)
        for place, number in enumerate(args):
            register = builder.insert_element(register, number, _place(place))
        return register

    return Register(a)(a, a, a, a), made


def of_registers(function: Any) -> Any:
    """What a compiled function of three numbers makes of registers: at once, or number by number where it asks for what
    registers don't have."""

    def found(a, b, c):
        return function(a, b, c)

    @overload(found, jit_options=INLINED)
    def _(a, b, c):
        if Register not in (type(a), type(b), type(c)):
            return lambda a, b, c: function(a, b, c)
        try:
            function.get_call_template((a, b, c), {})
        except NumbaError:
            return lambda a, b, c: _four(
                1.0 * function(_at(a, 0), _at(b, 0), _at(c, 0)),
                1.0 * function(_at(a, 1), _at(b, 1), _at(c, 1)),
                1.0 * function(_at(a, 2), _at(b, 2), _at(c, 2)),
                1.0 * function(_at(a, 3), _at(b, 3), _at(c, 3)),
            )
        return lambda a, b, c: function(a, b, c)

    return found


# Between arrays and registers


def _in_order(array: Any) -> Any:
    """The register type of an array, which is in C-order."""
    if array.layout != "C":
        raise TypingError(f"registers: must be of an array in C-order, got {array}")
    return Register(array.dtype)


def _first(context, builder, signature, args):
    """Where an array's number with an index stands."""
    array, index = signature.args[:2]
    held = context.make_array(array)(context, builder, args[0])
    places = cgutils.unpack_tuple(builder, args[1], count=len(index))
    places = [
        context.cast(builder, place, kind, types.intp)
        for place, kind in zip(places, index.types, strict=True)
    ]
    return cgutils.get_item_pointer(context, builder, array, held, places, wraparound=False)


def _four_from(context, builder, signature, args):
    """Where four numbers of an array begin; and the bytes of one."""
    array = signature.args[0]
    whole = context.get_value_type(Register(array.dtype)).as_pointer()
    first = _first(context, builder, signature, args)
    return builder.bitcast(first, whole), array.dtype.bitwidth // 8


@intrinsic
def load(_context, array, index):
    """Four numbers of an array, from an index (a tuple) on."""

    def made(context, builder, signature, args):
        address, align = _four_from(context, builder, signature, args)
        return builder.load(address, align=align)

    return _in_order(array)(array, index), made


@intrinsic
def store(_context, array, index, value):
    """Four numbers of an array ← a register, or a number four times, in the array's kind."""
    _in_order(array)

    def made(context, builder, signature, args):
        array, _, given = signature.args
        kind = Register(array.dtype)
        address, align = _four_from(context, builder, signature, args)
        found = args[2]
        if isinstance(given, Register) and given != kind:
            found = builder.fptrunc(found, context.get_value_type(kind))
        else:
            found = _as(context, builder, found, given, kind)
        builder.store(found, address, align=align)
        return context.get_dummy_value()

    return types.void(array, index, value), made


@intrinsic
def spread(_context, array, index):
    """An array's number with an index, four times."""

    def made(context, builder, signature, args):
        number = builder.load(_first(context, builder, signature, args))
        return _filled(context, builder, number, signature.return_type)

    return Register(array.dtype)(array, index), made


@intrinsic
def splat(_context, number):
    """A number, four times."""

    def made(context, builder, signature, args):
        return _filled(context, builder, args[0], signature.return_type)

    return Register(number)(number), made


@intrinsic
def widened(_context, a):
    """A register's numbers as float64."""

    def made(context, builder, signature, args):
        if signature.args[0].kind == types.float64:
            return args[0]
        return builder.fpext(args[0], context.get_value_type(signature.return_type))

    return Register(types.float64)(a), made


@intrinsic
def narrowed(_context, a, array):
    """A register of float64 in an array's kind."""

    def made(context, builder, signature, args):
        if signature.args[1].dtype == types.float64:
            return args[0]
        return builder.fptrunc(args[0], context.get_value_type(signature.return_type))

    return Register(array.dtype)(a, array), made


@intrinsic
def summed(_context, a):
    """The sum (a0 + a2) + (a1 + a3)."""

    def made(_, builder, __, args):
        a0, a1, a2, a3 = (builder.extract_element(args[0], _place(place)) for place in range(4))
        return builder.fadd(builder.fadd(a0, a2), builder.fadd(a1, a3))

    return a.kind(a), made


@intrinsic
def least(_context, a):
    """The least of a register's numbers."""

    def made(_, builder, __, args):
        a0, a1, a2, a3 = (builder.extract_element(args[0], _place(place)) for place in range(4))
        return _smaller(builder, _smaller(builder, a0, a2), _smaller(builder, a1, a3))

    return a.kind(a), made
