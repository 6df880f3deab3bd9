"""A control group of one's own, of version 1 or 2, with a limit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
FILES = {"pids": ("pids.max", "pids.max"), "memory": ("memory.limit_in_bytes", "memory.max")}
"""A controller's limit, in version 1 and 2."""


def above(controller: str) -> tuple[Path, int]:
    """The group of this process in which another can be made, and its version."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for _, controllers, path in lines:
        if controller in controllers.split(","):
            return GROUPS / controller / path.strip("/"), 1
    return GROUPS / lines[-1][2].strip("/"), 2


@contextmanager
def group(controller: str, limit: int) -> Iterator[Path]:
    """A group with this limit; a process joins by writing its number to cgroup.procs. OSError: none can be had here."""
    around, version = above(controller)
    made = around / f"pagewarden-{os.getpid()}-{controller}"
    made.mkdir()
    try:
        (made / FILES[controller][version - 1]).write_text(str(limit))
        yield made
    finally:
        made.rmdir()


def lacking_groups() -> str:
    """Why there are none here; empty where there are."""
    try:
        for controller in FILES:
            with group(controller, 1 << 40 if controller == "memory" else 1000):
                pass
    except OSError as error:
        return f"no control group of one's own: {error}"
    return ""
