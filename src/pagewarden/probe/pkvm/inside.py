"""The first process of the machine: file systems and modules, then every cell, as lines of JSON onto a disk."""

import json
import os
import socket
import struct
import traceback
from pathlib import Path

from pagewarden.kernel import door
from pagewarden.probe.pkvm import asker

MOUNTS = {"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/tmp": "tmpfs"}
ANSWER = "/dev/vdb"
"""Takes {"kernel": ..., "cells": how many}, a line for each cell, and {"end": what stopped it, or ""}."""
PARAMETERS = {"brd": b"rd_nr=1 rd_size=1024"}
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
REBOOT = 0xFEE1DEAD, 672274793, 0x4321FEDC
"""Two magic numbers and LINUX_REBOOT_CMD_POWER_OFF (include/uapi/linux/reboot.h)."""


def main() -> None:
    """The whole life of the machine."""
    try:
        prepare()
        ask_all(**json.loads(Path("/ask.json").read_text()))
    except BaseException:
        say(traceback.format_exc())
    finally:
        os.sync()
        door.syscall("reboot", *REBOOT, 0)


def say(what: str) -> None:
    """To the console, for whoever watches."""
    print(f"pagewarden: {what}", flush=True)


def prepare() -> None:
    """File systems, modules, core files, the loopback device."""
    for place, kind in MOUNTS.items():
        Path(place).mkdir(exist_ok=True)
        name, where = kind.encode(), place.encode()
        door.syscall("mount", door.bytes_address(name), door.bytes_address(where), door.bytes_address(name), 0, 0)
    for line in Path("/modules/order").read_text().split():
        parameters = PARAMETERS.get(line, b"")
        with open(f"/modules/{line}.ko", "rb") as module:
            door.syscall("finit_module", module.fileno(), door.bytes_address(parameters), 0)
    Path("/proc/sys/kernel/core_pattern").write_text("core")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        door.ioctl_inplace(any_socket.fileno(), SIOCSIFFLAGS, bytearray(struct.pack("16sh22x", b"lo", IFF_UP)))


def ask_all(backings: list[str], ways: list[str], each: float) -> None:
    """The cells of those backings and ways (shell patterns), so many seconds each, onto the disk as they come."""
    groups = list(asker.groups(backings, ways))
    total, done = sum(map(len, groups)), 0
    with open(ANSWER, "r+b", buffering=0) as disk:
        disk.write(_line({"kernel": os.uname().release, "cells": total}))
        end = ""
        for group in groups:
            for cell in asker.answers_of(group, each):
                end = str(cell.get("lack") or cell.get("failed") or "")
                if end:
                    break
                disk.write(_line(cell))
            done += len(group)
            say(f"{done} of {total}")
            if end:
                break
        disk.write(_line({"end": end}))
        os.fsync(disk.fileno())


def _line(said: asker.PageAnswer) -> bytes:
    return json.dumps(said).encode() + b"\n"


if __name__ == "__main__":
    main()
