"""How much memory this process may still take: of the machine, and of the control groups that it runs in."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MEMINFO, GROUPS, OWN = Path("/proc/meminfo"), Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available() -> int:
    """Bytes: what the kernel calls available, or what a group's limit leaves, whichever is less."""
    return max(0, min([_of_machine(), *_of_groups()]))


def _of_machine() -> int:
    with suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_groups() -> Iterator[int]:
    """What each group leaves that has a limit: this process's, of version 2 or 1, and each one around it. Pages of
    files that nobody has used for a while are no use of memory: they go first.

    Documentation/admin-guide/cgroup-v2.rst, memory.max; cgroup-v1/memory.rst, memory.limit_in_bytes. In a container the
    group's path may be that of its host: what is to be seen is then the root of the mount alone.
    """
    lines = ["0::/", "1:memory:/"]
    with suppress(OSError):
        lines = OWN.read_text().splitlines()
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            for root in (GROUPS, GROUPS / "unified"):
                yield from _around(root, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            yield from _around(GROUPS / "memory", path, *names)


def _around(root: Path, path: str, limit: str, usage: str, idle: str) -> Iterator[int]:
    own = root / path.strip("/")
    for group in (own, *own.parents[: len(own.parts) - len(root.parts)]):
        with suppress(OSError, ValueError):  # max: no limit here
            left = int((group / limit).read_text()) - int((group / usage).read_text())
            with suppress(OSError, ValueError, KeyError):
                left += int(dict(line.split() for line in (group / "memory.stat").read_text().splitlines())[idle])
            yield left
