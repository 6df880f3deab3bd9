"""What swapping and migration do to the kernel, and in which order, is what the law's procedures say, step by step."""

import ctypes
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kept_kit import content, filled, guest_reads, kept
from pagewarden.designs import PROCEDURES, Do, Hop, Syscall
from pagewarden.keep import residence
from pagewarden.keep.seal import Sealer
from pagewarden.kernel.uffd import Userfault
from pagewarden.law import Op, policy_of
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused, fresh_frames
from pagewarden.port import Listener
from pagewarden.sim import Machine
from pagewarden.vocab import Event

POLICY = policy_of("uffd-window")
SIZES = [1, 3, 60]
PAGES = 64
FIRST = 2


def by_the_law(name: str, pages: int) -> dict[Event, int]:
    found = Machine(POLICY, PAGES).perform(PROCEDURES[name](POLICY), PageRange(0, pages))
    assert (found.completed, found.failed) == (1, 0)
    return {event: found[event] for event in Event}


def steps_of(name: str) -> list[Op | str]:
    """The listing, without what only a hypervisor beside the host has: hops, and its own references (KVM_GET)."""
    steps = PROCEDURES[name](POLICY).steps
    return [
        step.op if isinstance(step, Do) else step.name
        for step in steps
        if not isinstance(step, Hop) and getattr(step, "op", None) is not Op.KVM_GET and isinstance(step, (Do, Syscall))
    ]


class Seen:
    """What the kernel says of the guest's pages: entries of its page table, frames of the file."""

    def __init__(self, memory: PrivateMemory) -> None:
        self._memory = memory

    def entries(self) -> NDArray[np.uint64]:
        """With the frames' numbers where this user may see them (Documentation/admin-guide/mm/pagemap.rst)."""
        with open("/proc/self/pagemap", "rb", 0) as file:
            file.seek(8 * (self._memory.guest_address // PAGE_SIZE))
            return np.frombuffer(file.read(8 * PAGES), np.uint64)

    def mapped(self) -> NDArray[np.bool_]:
        return np.greater_equal(self.entries(), np.uint64(1 << 63))

    def frames(self) -> int:
        return os.fstat(self._memory.file).st_blocks * 512 // PAGE_SIZE


class Watcher(Listener):
    """Who has the pages as well, and is told."""

    def __init__(self, steps: list[Any]) -> None:
        self._steps = steps
        self.pages: list[PageRange] = []

    def invalidate_begin(self, pages: PageRange) -> None:
        self._steps.append(Op.NOTIFY_BEGIN)
        self.pages.append(pages)

    def invalidate_end(self, pages: PageRange) -> None:
        self._steps.append(Op.NOTIFY_END)


@contextmanager
def recorded(patch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The steps that are taken, each at the one door that it has; an AEAD call is a copy."""
    steps: list[Any] = []
    with patch.context() as inner:
        at(inner, steps, Sealer, "seal", Op.SWAP_OUT)
        at(inner, steps, Sealer, "unseal", Op.SWAP_IN)
        at(inner, steps, Userfault, "copy", Op.GUEST_MAP)
        at(inner, steps, residence, "punch_hole", Op.GUEST_ZAP, Op.GUEST_TLBI)
        at(inner, steps, os, "pwrite", "pwrite")
        at(inner, steps, os, "preadv", "pread")
        yield steps


def at(patch: pytest.MonkeyPatch, steps: list[Any], owner: Any, name: str, *words: Any) -> None:
    real = getattr(owner, name)

    def noted(*arguments: Any, **options: Any) -> Any:
        steps.extend(words)
        return real(*arguments, **options)

    patch.setattr(owner, name, noted)


def _ledger(memory: Any) -> Counter[str]:
    return Counter(memory.statistics()) + Counter(memory.swap_events())


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Any]:
    with kept(tmp_path / "swap", PAGES, ahead=PAGES) as made:
        filled(made, PAGES)
        for page in range(PAGES):
            assert guest_reads(made, page) == content(page)
        made.swap_out(PageRange(0, 1))  # the file has its head
        yield made


@pytest.mark.parametrize("pages", SIZES)
def test_a_page_goes_as_the_law_says(memory: Any, pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps, and each as often. In another order: the law's zap keeps the guest from writing while the page is
    sealed, which write protection does here, and the page is zapped when its copy is on the disk: a full one loses
    nothing."""
    seen, law = Seen(memory), by_the_law("swap-out", pages)
    mapped, frames, before = seen.mapped(), seen.frames(), _ledger(memory)
    with recorded(monkeypatch) as steps:
        memory.subscribe(watcher := Watcher(steps))
        assert memory.swap_out(PageRange(FIRST, FIRST + pages)) == pages
    assert watcher.pages == [PageRange(FIRST, FIRST + pages)]
    assert Counter(steps) == Counter(steps_of("swap-out"))
    assert steps == [Op.NOTIFY_BEGIN, Op.SWAP_OUT, "pwrite", Op.GUEST_ZAP, Op.GUEST_TLBI, Op.NOTIFY_END]
    assert int((mapped & ~seen.mapped()).sum()) == law[Event.GUEST_PTE_CLEAR] == pages
    assert frames - seen.frames() == pages
    ledger = _ledger(memory)
    assert {event: ledger[event.key] - before[event.key] for event in Event} == {
        **law, Event.GUEST_PTE_CLEAR: 0,  # the kernel's, counted above
    }  # fmt: skip


@pytest.mark.parametrize("pages", SIZES)
def test_a_page_comes_back_as_the_law_says(memory: Any, pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.swap_out(PageRange(FIRST, FIRST + pages))
    seen, law = Seen(memory), by_the_law("swap-in", pages)
    mapped, frames, before = seen.mapped(), seen.frames(), _ledger(memory)
    with recorded(monkeypatch) as steps:
        buffer = ctypes.create_string_buffer(8)
        steps.append(Op.GUEST_LOAD)
        ctypes.CDLL(None).memcpy(buffer, ctypes.c_void_p(memory.guest_address + FIRST * PAGE_SIZE), 8)
    assert steps == steps_of("swap-in")
    assert buffer.raw == content(FIRST)[:8]
    assert int((seen.mapped() & ~mapped).sum()) == law[Event.GUEST_PTE_SET] == pages
    assert seen.frames() - frames == law[Event.ALLOCATIONS] == pages
    ledger = _ledger(memory)
    assert {event: ledger[event.key] - before[event.key] for event in Event} == {
        **law, Event.GUEST_PTE_SET: 0, Event.PINS: 0,  # KVM's, that is the kernel's
    }  # fmt: skip


@pytest.mark.parametrize("pages", SIZES)
def test_pages_go_to_fresh_frames_as_the_law_says(pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages of a memory at once; the guest's entries come as it touches them."""
    law = by_the_law("migrate-page", pages)
    with PrivateMemory(PAGES * PAGE_SIZE, "uffd-window") as memory:
        memory.populate(0, b"".join(map(content, range(pages))))
        seen, steps = Seen(memory), list[Any]()
        memory.subscribe(watcher := Watcher(steps))
        entries, old = seen.entries(), os.dup(memory.file)
        at(monkeypatch, steps, fresh_frames, "frozen", Op.MIGRATE_BEGIN)
        at(monkeypatch, steps, fresh_frames, "_copied", Op.MIGRATE_COPY)
        at(monkeypatch, steps, fresh_frames, "syscall", Op.GUEST_ZAP, Op.GUEST_TLBI, Op.GUEST_MAP)  # one mremap
        at(monkeypatch, steps, fresh_frames, "scrub", Op.MIGRATE_COMMIT)
        fresh_frames.migrate(memory)
        assert watcher.pages == [PageRange(0, PAGES)]
        assert Counter(steps) == Counter(steps_of("migrate-page"))
        assert (steps[:3], steps[-1]) == ([Op.MIGRATE_BEGIN, Op.NOTIFY_BEGIN, Op.MIGRATE_COPY], Op.NOTIFY_END)
        assert int((entries >= 1 << 63).sum()) == law[Event.GUEST_PTE_CLEAR] == pages
        if (entries[:pages] << np.uint64(9)).any():  # bits 0 to 54
            assert (entries[:pages] != seen.entries()[:pages]).all()
        assert seen.frames() == law[Event.ALLOCATIONS] == law[Event.HYP_COPIES] == pages
        assert os.fstat(old).st_blocks == 0
        os.close(old)
        assert all(guest_reads(memory, page) == content(page) for page in range(pages))
        assert int(seen.mapped().sum()) == law[Event.GUEST_PTE_SET] == pages
        assert memory.statistics()["notifications"] == law[Event.NOTIFICATIONS] == 1


class Refuses(Watcher):
    def invalidate_begin(self, pages: PageRange) -> None:
        raise Refused(16, "a device has it")


def test_who_holds_a_page_or_refuses_keeps_it_there(memory: Any) -> None:
    with memory.hold(PageRange(9, 10)), pytest.raises(Refused, match="EAGAIN"):
        memory.swap_out(PageRange(5, 20))
    memory.subscribe(refuses := Refuses([]))
    with pytest.raises(Refused, match="a device has it"):
        memory.swap_out(PageRange(5, 20))
    memory.unsubscribe(refuses)
    assert memory.swapped == PAGE_SIZE  # of the fixture
    assert memory.swap_out(PageRange(5, 20)) == 15
    with PrivateMemory(PAGE_SIZE, "uffd-window") as other:
        other.subscribe(refuses)
        with pytest.raises(Refused, match="a device has it"):
            fresh_frames.migrate(other)
