"""A caller's stack of any depth: what a loop costs must not depend on where the interpreter's chunk of it ends."""

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from types import FunctionType
from typing import ParamSpec, TypeVar

from pagewarden.kernel.still import still

CHUNK = 16384 // 8
"""Words of a chunk of the interpreter's stack (Python/pystate.c, DATA_STACK_CHUNK_SIZE)."""
Found = TypeVar("Found")
Given = ParamSpec("Given")


def at_every_depth(go: Callable[[], Found], words: Iterable[int] = range(8, CHUNK, 40)) -> Iterator[Found]:
    """go()'s results, each from a frame of another size, in words; skips where the kernel does not count."""

    def frame() -> Found:
        return go()

    for size in words:
        code = frame.__code__.replace(co_stacksize=size)
        yield FunctionType(code, {}, "frame", None, frame.__closure__)()


def called(depth: int) -> int:
    """Calls inside calls."""
    return called(depth - 1) if depth else 0


def alone(test: Callable[Given, None]) -> Callable[Given, None]:
    """A test that counts what the kernel does: without what the interpreter's own memory makes it do."""

    @wraps(test)
    def counting(*given: Given.args, **named: Given.kwargs) -> None:
        still(lambda: test(*given, **named))

    return counting
