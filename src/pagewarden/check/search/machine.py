"""What compiled loops ask of the machine itself: a line of memory soon, and what threads need to take turns."""

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

tools: Any = _cgutils
_numba: Any = numba
_Emit = Callable[[Any, Any, list[Any]], Any]
"""Of the builder, the place of an array's element, and further arguments: the value of the call."""


def _at(name: str, result: Any, emit: _Emit, otherwise: Callable[..., Any]) -> Any:
    """name(array, index, ...), in compiled code; otherwise: where nothing is compiled (NUMBA_DISABLE_JIT)."""
    if _numba.config.DISABLE_JIT:
        return otherwise

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = signature.args[0]
        held = context.make_array(array)(context, builder, arguments[0])
        place = tools.get_item_pointer(context, builder, array, held, [arguments[1]], wraparound=False)
        return emit(builder, place, arguments[2:]) or context.get_dummy_value()

    def one(typingctx: Any, array: Any, index: Any) -> Any:
        return result(array, index), generate

    def two(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
        return result(array, index, types.int64), generate

    typed = two if otherwise.__code__.co_argcount == 3 else one
    typed.__name__ = typed.__qualname__ = name
    return intrinsic(typed)


def _prefetch(builder: Any, place: Any, _: Any) -> None:
    word = ir.IntType(32)
    byte = builder.bitcast(place, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [byte.type, word, word, word])
    builder.call(
        tools.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0"), [byte, word(0), word(3), word(1)]
    )


def _fetch_add(builder: Any, place: Any, _: Any) -> Any:
    return builder.atomic_rmw("add", place, ir.IntType(64)(1), "acq_rel")


def _load(builder: Any, place: Any, _: Any) -> Any:
    return builder.load_atomic(place, "acquire", 8)


def _store(builder: Any, place: Any, values: list[Any]) -> None:
    builder.store_atomic(values[0], place, "release", 8)


def _nothing(array: Any, index: Any) -> None:
    pass


def _plain_add(array: Any, index: int) -> int:
    array[index] += 1
    return int(array[index]) - 1


def _plain_load(array: Any, index: int) -> int:
    return int(array[index])


def _plain_store(array: Any, index: int, value: int) -> None:
    array[index] = value


prefetch = _at("prefetch", types.void, _prefetch, _nothing)
"""prefetch(array, index): the line that holds an element will be wanted soon (llvm.prefetch); without effect on
results."""
fetch_add = _at("fetch_add", types.int64, _fetch_add, _plain_add)
"""fetch_add(array, index): the int64 there, which is one more afterwards; no two threads get the same."""
load = _at("load", types.int64, _load, _plain_load)
"""load(array, index): an int64, and with it all that its writer wrote before."""
store = _at("store", types.void, _store, _plain_store)
"""store(array, index, value): after all that was written before."""


def _give_way(typingctx: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        return builder.call(tools.get_or_insert_function(builder.module, kind, "sched_yield"), [])

    return types.int32(), generate


give_way: Any = (lambda: 0) if _numba.config.DISABLE_JIT else intrinsic(_give_way)
"""Let another thread have the processor (sched_yield(2))."""
