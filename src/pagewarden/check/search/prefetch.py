"""A hint to the memory: the line that holds an element will be wanted soon."""

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.extending import intrinsic

tools: Any = _cgutils
_numba: Any = numba


def _prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """prefetch(array, index), in compiled code: LLVM's llvm.prefetch on array[index]; without effect on results."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        held = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = tools.get_item_pointer(context, builder, signature.args[0], held, [arguments[1]], wraparound=False)
        byte = builder.bitcast(place, ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte.type, word, word, word])
        hint = tools.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(hint, [byte, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, index), generate


def _nothing(array: Any, index: Any) -> None:
    """Where nothing is compiled (NUMBA_DISABLE_JIT)."""


prefetch: Any = _nothing if _numba.config.DISABLE_JIT else intrinsic(_prefetch)
