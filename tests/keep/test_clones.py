"""Many memories from one snapshot: clean pages lie in the same frames, and what one writes no other ever sees."""

import ctypes
import errno
import mmap
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest_kit import SmallDevice, random_disk, random_program, trace
from kept_kit import PAGES, content, filled, guest_reads, guest_writes
from kvm_kit import machine
from moving_kit import STATE, Move
from pagewarden.guest.listing import assemble
from pagewarden.guest.program import image
from pagewarden.guest.serve import Guest, serve
from pagewarden.guest.warden import Warden
from pagewarden.keep import ClonedMemory, KeptMemory, Template
from pagewarden.keep.moving import Tickets
from pagewarden.keep.residence import THERE
from pagewarden.keep.seal import SLOT
from pagewarden.kernel.door import copy
from pagewarden.kernel.kvm import Kvm
from pagewarden.kernel.region import Region
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, Refused

KEY = bytes(range(32))
HOLES = 3
"""Pages at the end that the snapshot has not."""
SHARED = PageRange(4, 6)


def expected(page: int) -> bytes:
    return content(page) if page < PAGES - HOLES else bytes(PAGE_SIZE)


WHOLE = b"".join(map(expected, range(PAGES)))


@pytest.fixture
def taken(tmp_path: Path) -> Path:
    with KeptMemory(PAGES * PAGE_SIZE) as mem:
        filled(mem, PAGES - HOLES)
        mem.share(SHARED)
        mem.snapshot(tmp_path / "snapshot", KEY, b"CPUs")
    return tmp_path / "snapshot"


@pytest.fixture
def template(taken: Path) -> Iterator[Template]:
    with Template(taken, KEY) as made:
        yield made


@pytest.fixture
def two(template: Template) -> Iterator[tuple[ClonedMemory, ClonedMemory]]:
    (first, state), (second, _) = template.clone(ahead=1), template.clone(ahead=1)
    with first, second:
        assert state == b"CPUs"
        yield first, second
        assert first.trouble is second.trouble is None


def proportional(mem: ClonedMemory) -> int:
    """Bytes of the guest's view, each frame by how many mappings have it (Pss of /proc/self/smaps)."""
    found, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if span := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            counts = mem.guest_address <= int(span[1], 16) < mem.guest_address + mem.size
        elif counts and line.startswith("Pss:"):
            found += int(line.split()[1]) << 10
    return found


def frames(template: Template) -> int:
    return os.fstat(template.file.fd).st_blocks * 512 // PAGE_SIZE


def test_clean_pages_lie_in_the_same_frames_once(template: Template, two: tuple[ClonedMemory, ClonedMemory]) -> None:
    first, second = two
    assert frames(template) == SHARED.count and template.unsealed == SHARED.count * PAGE_SIZE
    clean = range(10, 74)
    for mem in two:
        for page in clean:
            assert guest_reads(mem, page) == content(page)
    assert frames(template) == SHARED.count + len(clean)
    assert first.resident == second.resident == 0
    alone = (len(clean) + SHARED.count) * PAGE_SIZE
    assert all(0 < proportional(mem) <= alone // len(two) for mem in two)
    for page in clean[:16]:
        guest_writes(first, page, b"own")
    assert first.resident == 16 * PAGE_SIZE and second.resident == 0
    assert frames(template) == SHARED.count + len(clean)
    assert proportional(first) >= 16 * PAGE_SIZE


def test_holes_take_no_frame_of_the_template(template: Template, two: tuple[ClonedMemory, ClonedMemory]) -> None:
    before = frames(template)
    for mem in two:
        assert guest_reads(mem, PAGES - 1) == bytes(PAGE_SIZE)
    guest_writes(two[0], PAGES - 1, b"first")
    assert guest_reads(two[1], PAGES - 1) == bytes(PAGE_SIZE) and frames(template) == before


def test_what_one_does_no_other_sees(template: Template) -> None:
    """Every way to write, in any order, on three clones, against bytes that are kept beside them."""
    rng = random.Random(5)
    clones = [template.clone(ahead=rng.choice([1, 4, 16]))[0] for _ in range(3)]
    models = [bytearray(WHOLE) for _ in clones]
    for step in range(250):
        k = rng.randrange(len(clones))
        mem, model, page = clones[k], models[k], rng.randrange(PAGES)
        at, data = page * PAGE_SIZE, b"%d of %d" % (step, k)
        pages = PageRange(page, min(PAGES, page + rng.randrange(1, 5)))
        act = rng.randrange(8)
        if act == 0:
            guest_writes(mem, page, data)
            model[at : at + len(data)] = data
        elif act == 1:
            at = min(at + rng.randrange(PAGE_SIZE), mem.size - len(data))
            mem.private_write(at, data)
            model[at : at + len(data)] = data
        elif act == 2:
            mem.share(pages)
            mem.window.write(at, data)
            model[at : at + len(data)] = data
        elif act == 3:
            mem.unshare(pages)
            with pytest.raises(PrivateAccess):
                mem.window.read(at, 1)
        elif act == 4:
            mem.punch(pages)
            model[at : pages.stop * PAGE_SIZE] = bytes(pages.count * PAGE_SIZE)
        elif act == 5:
            mem.prefetch(pages)
        elif act == 6:
            assert guest_reads(mem, page) == model[at : at + PAGE_SIZE]
        else:
            mem.convert(to_shared=[pages])
        assert mem.private_read(at, PAGE_SIZE) == model[at : at + PAGE_SIZE]
    for mem, model in zip(clones, models, strict=True):
        assert mem.private_read(0, mem.size) == model and mem.trouble is None
        for page in range(PAGES):
            assert guest_reads(mem, page) == model[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]
    ours = template.region.memory
    assert all(bytes(ours[p * PAGE_SIZE : (p + 1) * PAGE_SIZE]) in (content(p), bytes(PAGE_SIZE)) for p in range(PAGES))
    for mem in clones:
        mem.close()


def test_nobody_can_write_to_the_shared_frames(template: Template, two: tuple[ClonedMemory, ClonedMemory]) -> None:
    assert guest_reads(two[0], 10) == content(10)
    with pytest.raises(PermissionError):
        os.pwrite(template.file.fd, b"x", 10 * PAGE_SIZE)
    with pytest.raises(PermissionError):
        mmap.mmap(template.file.fd, template.size)
    with pytest.raises(PermissionError):
        os.ftruncate(template.file.fd, 0)
    assert guest_reads(two[1], 10) == content(10)


def test_a_device_reaches_no_frame_of_the_template(two: tuple[ClonedMemory, ClonedMemory]) -> None:
    """The file that a device is given, and the window, have the clone's own pages."""
    first, second = two
    assert guest_reads(second, 30) == content(30)
    first.share(PageRange(30, 31))
    os.pwrite(first.file, b"device", 30 * PAGE_SIZE)
    assert guest_reads(first, 30)[:6] == b"device" and guest_reads(second, 30) == content(30)
    first.unshare(PageRange(30, 31))
    guest_writes(first, 30, b"secret")
    with pytest.raises(PrivateAccess):
        first.window.read(30 * PAGE_SIZE, 1)
    assert b"secret" not in os.pread(second.file, second.size, 0)


def test_a_page_that_cannot_be_put_into_the_file_stays_private_and_the_guests(
    two: tuple[ClonedMemory, ClonedMemory], monkeypatch: pytest.MonkeyPatch
) -> None:
    mem = two[0]
    guest_writes(mem, 30, b"before")

    def no_room(*given: object, **options: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as patched:
        patched.setattr(Region, "place", no_room)
        with pytest.raises(Refused) as refusal:
            mem.share(PageRange(30, 31))
    assert refusal.value.errno == errno.ENOMEM and refusal.value.offset == 30 * PAGE_SIZE
    assert [*mem.shared_runs()] == [SHARED] and b"before" not in os.pread(mem.file, mem.size, 0)
    guest_writes(mem, 30, b"later!")
    mem.share(PageRange(30, 31))
    assert mem.window.read(30 * PAGE_SIZE, 6) == b"later!"


@pytest.mark.parametrize("reads", [True, False])
def test_a_changed_page_is_refused_to_every_clone_that_touches_it(taken: Path, reads: bool) -> None:
    data, page = bytearray(taken.read_bytes()), 40
    data[PAGE_SIZE + page * SLOT + 5] ^= 1
    taken.write_bytes(data)
    with Template(taken, KEY) as template:
        clones = [template.clone()[0] for _ in range(2)]
        for mem in clones:
            with mem:
                with pytest.raises(Refused) as refusal:
                    mem.private_read(39 * PAGE_SIZE, 2 * PAGE_SIZE) if reads else mem.private_write(
                        39 * PAGE_SIZE, bytes(2 * PAGE_SIZE)
                    )
                assert (refusal.value.errno, refusal.value.offset) == (errno.EBADMSG, page * PAGE_SIZE)
                with pytest.raises(Refused):
                    mem.share(PageRange(page, page + 1))
                assert guest_reads(mem, page + 1) == content(page + 1)
        assert bytes(template.region.memory[page * PAGE_SIZE : (page + 1) * PAGE_SIZE]) == bytes(PAGE_SIZE)


def test_a_snapshot_that_is_cut_under_its_clones_is_refused_page_by_page(
    taken: Path, template: Template, two: tuple[ClonedMemory, ClonedMemory]
) -> None:
    assert guest_reads(two[0], 20) == content(20)
    os.truncate(taken, PAGE_SIZE)
    assert guest_reads(two[1], 20) == content(20)  # what was looked at is there
    with pytest.raises(Refused, match="truncated"):
        two[1].prefetch(PageRange(21, 22))


def test_each_goes_alone_and_the_template_with_the_last(taken: Path) -> None:
    template = Template(taken, KEY)
    first, second = template.clone()[0], template.clone()[0]
    assert guest_reads(first, 10) == content(10)
    template.close()
    with pytest.raises(ValueError, match="closed"):
        template.clone()
    first.close()
    first.close()
    assert guest_reads(second, 10) == content(10) and guest_reads(second, 50) == content(50)
    assert template.file.fd >= 0
    second.close()
    assert template.file.fd < 0


def test_a_forked_child_has_nothing_of_them(two: tuple[ClonedMemory, ClonedMemory]) -> None:
    child = os.fork()
    if not child:
        try:
            two[0].private_read(0, 1)
        except Exception:
            two[0].close()
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert guest_reads(two[0], 60) == content(60)


def test_a_clone_is_saved_and_goes_on(two: tuple[ClonedMemory, ClonedMemory], tmp_path: Path) -> None:
    mem, other = two
    assert guest_reads(mem, 50) == content(50)
    guest_writes(mem, 20, b"changed")
    mem.punch(PageRange(30, 31))
    mem.snapshot(tmp_path / "again", KEY)
    guest_writes(mem, 50, b"after")  # its frame is the template's still, and protected
    assert guest_reads(other, 50) == content(50)
    again, _ = KeptMemory.restored(tmp_path / "again", KEY)
    with again:
        assert again.private_read(20 * PAGE_SIZE, 7) == b"changed"
        assert again.private_read(30 * PAGE_SIZE, PAGE_SIZE) == bytes(PAGE_SIZE)
        assert again.private_read(50 * PAGE_SIZE, PAGE_SIZE) == content(50)
        assert [*again.shared_runs()] == [SHARED]


def test_a_clone_moves_and_nothing_of_its_own_stays(two: tuple[ClonedMemory, ClonedMemory], tickets: Tickets) -> None:
    mem, other = two
    guest_writes(mem, 20, b"secret")
    mem.share(PageRange(30, 31))
    before, place = mem.private_read(0, mem.size), mem.guest_address
    moved = Move(mem, tickets)
    assert moved.arrival is not None and moved.error is None
    with moved.arrival.memory as there:
        assert there.private_read(0, there.size) == before and moved.arrival.state == STATE
    left = ctypes.create_string_buffer(PAGES * PAGE_SIZE)
    copy(ctypes.addressof(left), place, len(left))  # the view is there until it is closed
    assert left.raw == bytes(len(left))
    assert guest_reads(other, 20) == content(20)


def test_working_sets_are_recorded_and_replayed(two: tuple[ClonedMemory, ClonedMemory]) -> None:
    first, second = two
    order = first.record()
    for page in (17, 9, 60):
        guest_reads(first, page)
    guest_writes(first, 33, b"x")
    assert order == [17, 9, 60, 33]
    second.replay(order)
    faults = second.traffic()["faults"]
    for page in order:
        assert guest_reads(second, page) == content(page)
    assert second.traffic()["faults"] == faults


def test_the_copies_are_counted(two: tuple[ClonedMemory, ClonedMemory]) -> None:
    mem = two[0]
    before = mem.swap_events()
    guest_reads(mem, 20)  # a page of the template, mapped
    guest_writes(mem, 20, b"x")  # and copied, in the place of that
    guest_writes(mem, 21, b"x")  # copied at once
    after = {key: count - before[key] for key, count in mem.swap_events().items()}
    assert after == {"hyp_copies": 2, "allocations": 2, "tlbi": 1, "faults": 3}
    with pytest.raises(Refused, match="no swap file"):
        mem.swap_out(PageRange(0, PAGES))
    assert (mem._residence.state[20:22] == THERE).all()


def test_two_guests_run_on_clones_of_one_snapshot(tmp_path: Path) -> None:
    disk = random_disk(3)
    described = random_program("window", disk)
    code = assemble(described)
    with KeptMemory(described.layout.size) as mem:
        for gpa, data in image(described, code.content):
            mem.populate(gpa, data)
        mem.snapshot(tmp_path / "snapshot", KEY)
    wanted = trace(described, disk, None).memory
    shared, end = described.layout.shared, described.layout.end
    with Kvm() as kvm, Template(tmp_path / "snapshot", KEY) as template:
        clones = [template.clone(ahead=1)[0] for _ in range(2)]
        for memory in clones:
            with kvm.create_vm() as vm, machine(vm, memory) as made:
                device = SmallDevice(memory.window, described.layout, bytearray(disk))
                warden = Warden(memory, [described], device.process)
                outcome = serve(Guest(made.cpus[0], code, warden, described.outs))
                assert outcome.failures == 0 and outcome.requests == len(described.requests)
        for memory in clones:
            assert memory.private_read(shared, end - shared) == wanted[shared:]
            assert memory.traffic()["faults"] > 0
            memory.close()
