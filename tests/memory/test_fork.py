"""A memory belongs to the process that made it: a forked child is refused, and the parent notices nothing of it."""

import gc
import multiprocessing
import os
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np
import pytest

from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, PrivateMemory
from pagewarden.vocab import UserMistake

BACKINGS = ["uffd-window", "memfd-secret", "memfd", "guest-memfd", "isolated"]
ONE = PageRange(0, 1)


def made(backing: str) -> PrivateMemory:
    if backing == "isolated":
        return PrivateMemory(4 * PAGE_SIZE, isolated=True)
    return PrivateMemory(4 * PAGE_SIZE, backing)


class Deaf:
    def invalidate_begin(self, pages: PageRange) -> None: ...
    def invalidate_end(self, pages: PageRange) -> None: ...


def calls(mem: PrivateMemory) -> dict[str, Callable[[], object]]:
    """Every public method and property that does something with the pages."""
    places, data = np.array([[0], [8]], np.int64), np.zeros(8, np.uint8)
    found: dict[str, Callable[[], object]] = {
        "share": lambda: mem.share(ONE),
        "unshare": lambda: mem.unshare(ONE),
        "convert": lambda: mem.convert([ONE]),
        "punch": lambda: mem.punch(ONE),
        "populate": lambda: mem.populate(0, b"x"),
        "private_read": lambda: mem.private_read(0, 1),
        "private_write": lambda: mem.private_write(0, b"x"),
        "guest_address": lambda: mem.guest_address,
        "file": lambda: mem.file,
        "hold": lambda: mem.hold(ONE),
        "subscribe": lambda: mem.subscribe(Deaf()),
        "unsubscribe": lambda: mem.unsubscribe(Deaf()),
        "window": lambda: mem.window,
        "spawn": lambda: mem.spawn(print),
        "is_shared": lambda: mem.is_shared(0),
        "shared_runs": lambda: list(mem.shared_runs()),
        "statistics": mem.statistics,
    }
    if not mem.isolated:
        window = mem.window
        found |= {
            "memory": lambda: window.memory,
            "array": lambda: window.array,
            "read": lambda: window.read(0, 1),
            "read_into": lambda: window.read_into(0, bytearray(1)),
            "write": lambda: window.write(0, b"x"),
            "pread_from": lambda: window.pread_from(0, 0, [(0, 1)]),
            "pwrite_to": lambda: window.pwrite_to(1, 0, [(0, 1)]),
            "gather": lambda: window.gather(places, 1, data),
            "scatter": lambda: window.scatter(places, 1, data),
            "add16": lambda: window.add16(2, 1),
        }
    return found


def refusals(mem: PrivateMemory, asked: dict[str, Callable[[], object]]) -> list[str]:
    """What did not refuse with the one error, and what close and the collector brought."""
    wrong = []
    for name, call in asked.items():
        try:
            wrong.append(f"{name} gave {call()!r}")
        except UserMistake as error:
            if f"belongs to process {os.getppid()}" not in str(error):
                wrong.append(f"{name}: {error}")
        except BaseException as error:
            wrong.append(f"{name}: {error!r}")
    mem.close()
    with mem:
        pass
    return wrong


def in_a_child(function: Callable[[], list[str]]) -> list[str]:
    """What the function says in a forked child."""
    receive, transmit = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            words = "\n".join(function())
        except BaseException:
            words = traceback.format_exc()
        os.write(transmit, words.encode()[:4000])
        os._exit(0)
    os.close(transmit)
    with os.fdopen(receive) as heard:
        words = heard.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, words
    return words.splitlines()


@pytest.mark.parametrize("backing", BACKINGS)
def test_every_method_refuses_in_a_forked_child_and_the_parent_notices_nothing(backing: str) -> None:
    with made(backing) as mem:
        converts = backing != "guest-memfd"
        if converts:
            mem.private_write(0, b"SECRET..")
            mem.share(PageRange(2, 3))
        asked = calls(mem)
        assert in_a_child(lambda: refusals(mem, asked)) == []
        assert [run.start for run in mem.shared_runs()] == [2] * converts
        if backing in ("uffd-window", "memfd-secret"):
            with pytest.raises(PrivateAccess):
                mem.window.read(0, 1)
        if converts:
            assert mem.private_read(0, 8) == b"SECRET.."
            mem.share(ONE)
            mem.unshare(PageRange(0, 4))


@pytest.mark.parametrize("backing", ["uffd-window", "memfd-secret"])
def test_a_child_reaches_no_byte_by_what_fork_copied(backing: str) -> None:
    """Neither through a descriptor nor through a buffer that it kept."""
    with made(backing) as mem:
        mem.populate(0, b"SECRET..")
        mem.share(ONE)
        view, file, guest = mem.window.memory, mem.file, mem.guest_address

        def look() -> list[str]:
            own = os.memfd_create("own")
            assert own == file  # the number was free: the copy of the memory's descriptor is closed
            target, memory = bytearray(8), os.open("/proc/self/mem", os.O_RDONLY)
            with suppress(OSError):
                os.pwrite(own, view[:8], 0)
            with suppress(OSError):
                os.preadv(memory, [target], guest)
            del view_kept[:]
            gc.collect()
            return [] if b"SECRET" not in os.pread(own, 8, 0) + target else ["the bytes"]

        view_kept = [view]
        assert in_a_child(look) == []
        assert mem.window.read(0, 8) == b"SECRET.."


def test_a_child_that_fills_its_memory_and_collects_lives_on() -> None:
    """Its heap must not come to lie where the parent's memory was and where an object of the child still unmaps."""

    def churn() -> list[str]:
        kept = [bytearray(b"\xaa" * (1 << 20)) for _ in range(64)]
        memories.pop().close()
        gc.collect()
        return [] if all(set(piece) == {0xAA} for piece in kept) else ["the heap changed"]

    memories = [made("uffd-window")]
    memories[0].window.read_into(0, bytearray(0))  # its scratch file is there
    assert in_a_child(churn) == []
    memories[0].close()


def _work(backing: str, channel: Connection) -> None:
    channel.send(refusals(_inherited[0], {"share": lambda: _inherited[0].share(ONE)}))


_inherited: list[PrivateMemory] = []


def test_a_worker_of_multiprocessing_is_refused_too() -> None:
    context = multiprocessing.get_context("fork")
    with made("uffd-window") as mem:
        _inherited[:] = [mem]
        ours, theirs = context.Pipe()
        worker = context.Process(target=_work, args=("uffd-window", theirs))
        worker.start()
        assert ours.recv() == []
        worker.join()
        assert worker.exitcode == 0 and not mem.is_shared(0)
        with pytest.raises(PrivateAccess):
            mem.window.read(0, 1)
        _inherited.clear()


def test_a_child_may_have_a_memory_of_its_own() -> None:
    def own() -> list[str]:
        with PrivateMemory(2 * PAGE_SIZE, "uffd-window") as mine:
            mine.populate(0, b"child")
            mine.share(ONE)
            return [] if mine.window.read(0, 5) == b"child" else ["other bytes"]

    with made("uffd-window"):
        assert in_a_child(own) == []
