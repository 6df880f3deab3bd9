"""How much memory this process may still take: of the machine, and of the control group that it runs in."""

import os
from contextlib import suppress
from pathlib import Path

MEMINFO, GROUPS, OWN = Path("/proc/meminfo"), Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available() -> int:
    """Bytes: what the kernel calls available, or what a group's memory.max leaves, whichever is less."""
    return max(0, min(_of_machine(), *_of_groups()))


def _of_machine() -> int:
    with suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _of_groups() -> list[int]:
    """Of this process's group (cgroup v2) and each one around it; none where there is no limit."""
    left = [1 << 62]
    with suppress(OSError, ValueError):
        own = next(line[3:] for line in [*OWN.read_text().splitlines(), "0::/"] if line.startswith("0::"))
        for group in (GROUPS / own.strip("/"), *(GROUPS / own.strip("/")).parents):
            if not group.is_relative_to(GROUPS):
                break
            with suppress(OSError, ValueError):  # max: no limit here
                limit = int((group / "memory.max").read_text())
                left.append(limit - int((group / "memory.current").read_text()))
    return left
