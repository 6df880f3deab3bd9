"""Hot loops: plain Python until there is so much to do that loading the compiler pays, then compiled by numba.

Loading numba and compiled code from disk takes longer than a few hundred requests take interpreted; a single request's
table should not wait for it. The code is the same either way, and tests run it both ways.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
_plain: dict[Callable[..., Any], bool] = {}
"""Whether each makes arrays."""


def hot(function: Function) -> Function:
    """A function that `compile_hot` compiles. It may call other hot functions by name, of its own or another module.

    It makes no array, and keeps none that it is given: so nobody counts who holds them, which takes longer than a
    request does where a record of many is passed on.
    """
    _plain[function] = False
    return function


def making(function: Function) -> Function:
    """A hot function that makes arrays, or calls a method of one (numba's own count)."""
    _plain[function] = True
    return function


def compile_hot() -> None:
    """From now on every hot function is compiled, at its first call or from the disk's cache."""
    if not _plain:
        return
    from pagewarden.vocab.compiled import njit

    compiled = {id(function): njit(function, _nrt=makes) for function, makes in _plain.items()}
    for name in {function.__module__ for function in _plain}:
        names = vars(sys.modules[name])
        names.update({key: compiled[id(value)] for key, value in names.items() if id(value) in compiled})
    _plain.clear()
