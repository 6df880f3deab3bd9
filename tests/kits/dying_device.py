"""The device of an isolated run that dies at its n-th look at the guest's memory, or change of it: at_1, at_2 ..."""

import os
from collections.abc import Callable
from typing import Any

from pagewarden.memory.isolated.side import HostSide
from pagewarden.studies.run.device import serve_block

MOST = 100
LATER = 100
"""Steps that those live who follow the first one."""
STEPS = ("gather", "scatter", "transfer", "add16", "read", "write", "pread_from", "pwrite_to")


def _dying(steps: int) -> Callable[..., None]:
    def serve(host: HostSide, queue: int, ring: tuple[int, int, int, int], resume: bool, read_only: bool) -> None:
        left = LATER + steps if resume else steps

        def counted(step: Callable[..., Any]) -> Callable[..., Any]:
            def taken(*arguments: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    os._exit(9)
                return step(*arguments)

            return taken

        for name in STEPS:
            setattr(host, name, counted(getattr(host, name)))
        serve_block(host, queue, ring, resume, read_only)

    serve.__name__ = serve.__qualname__ = f"at_{steps}"
    return serve


globals().update({f"at_{steps}": _dying(steps) for steps in range(1, MOST + 1)})
