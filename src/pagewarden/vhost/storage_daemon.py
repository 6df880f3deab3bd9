"""The words of qemu-storage-daemon(1) for vhost-user-blk exports, as words of `pagewarden serve blk`."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from pagewarden.vhost.server import until_signal
from pagewarden.vocab import UserMistake

_FILE = {"driver", "node-name", "filename", "read-only"}
_FILE_IGNORED = {"discard", "cache.direct", "cache.no-flush", "aio", "auto-read-only", "locking"}
_EXPORT = {"type", "id", "node-name", "addr.type", "addr.path", "addr.str", "writable", "num-queues"}


def _pairs(option: str, given: str, known: set[str]) -> dict[str, str]:
    """key=value,key=value; a comma within a value is doubled there (QEMU's util/keyval.c). UserMistake."""
    found = {}
    for part in given.replace(",,", "\0").split(","):
        key, equals, value = part.replace("\0", ",").partition("=")
        if not equals:
            key, value = ("type" if option == "--export" else "driver"), key
        if key not in known:
            raise UserMistake(f"{option} {given}: {key} is not served here; known are {', '.join(sorted(known))}")
        found[key] = value
    return found


def block_words(blockdevs: Sequence[str], exports: Sequence[str]) -> list[list[str]]:
    """For each export what `serve blk` is told. UserMistake for what it does not do."""
    files: dict[str, dict[str, str]] = {}
    for given in blockdevs:
        file = _pairs("--blockdev", given, _FILE | _FILE_IGNORED)
        if file.get("driver") not in ("file", "host_device") or not {"node-name", "filename"} <= set(file):
            raise UserMistake(f"--blockdev {given}: expected driver=file,node-name=NAME,filename=FILE; a raw file")
        files[file["node-name"]] = file
    if not exports:
        raise UserMistake("nothing to serve: give --export type=vhost-user-blk,id=ID,node-name=NAME,addr.type=...")
    return [_words(given, files) for given in exports]


def _words(given: str, files: dict[str, dict[str, str]]) -> list[str]:
    export = _pairs("--export", given, _EXPORT)
    file = files.get(export.get("node-name", ""))
    if export.get("type") != "vhost-user-blk" or file is None:
        raise UserMistake(f"--export {given}: expected type=vhost-user-blk and the node-name of a --blockdev")
    if export.get("addr.type") == "fd":
        place = ["--fd", export.get("addr.str", "")]
    elif export.get("addr.type") == "unix":
        place = ["--socket", export.get("addr.path", "")]
    else:
        raise UserMistake(f"--export {given}: expected addr.type=unix,addr.path=PATH or addr.type=fd,addr.str=N")
    writable = export.get("writable", "off") == "on" and file.get("read-only", "off") != "on"
    queues = export.get("num-queues", "1")
    return [*place, "--disk", file["filename"], "--queues", queues, *([] if writable else ["--readonly"])]


def serve_exports(words: list[list[str]], more: list[str]) -> int:
    """A process of `serve blk` for each, until a signal ends us, or they end by themselves; the first status that is
    not 0. Each has the descriptor that it was given, and no other."""
    with ExitStack() as stack, until_signal():
        started = []
        for each in words:
            fds = [int(each[1])] if each[0] == "--fd" and each[1].isdecimal() else []
            command = [sys.executable, "-m", "pagewarden", "serve", "blk", *each, "--stay", *more]
            process = subprocess.Popen(command, pass_fds=fds)
            stack.callback(process.wait)
            stack.callback(process.send_signal, signal.SIGTERM)
            started.append(process)
            for fd in fds:
                os.close(fd)
        return next((status for process in started if (status := process.wait())), 0)
    return 0
