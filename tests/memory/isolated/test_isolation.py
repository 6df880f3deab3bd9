"""An untrusted host side: what it can reach, what it keeps, and what it can say."""

import errno
import os
import signal
import socket
import threading
import time
from ctypes import addressof, create_string_buffer, memmove
from pathlib import Path

import pytest

import host_programs
from isolated_kit import PAGES, heard, seen
from leftovers import descriptors
from pagewarden.abi.memory import iovec
from pagewarden.kernel import door
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateMemory, Refused
from pagewarden.memory.isolated import messages, window
from pagewarden.memory.isolated.messages import RECORD, MessageKind
from pagewarden.memory.isolated.process import WORDS_MAX
from pagewarden.memory.isolated.side import LOWEST_OWN, SCRATCHES
from pagewarden.memory.isolated.window import IsolatedWindow
from pagewarden.vocab import HUGE_PAGE
from waits import SOON

PIECE = HUGE_PAGE // PAGE_SIZE


def test_the_host_side_sees_shared_pages_only(mem: PrivateMemory) -> None:
    mem.share(PageRange(0, 2))
    host = mem.spawn(host_programs.peek)
    assert [seen(host, page) for page in range(4)] == [b"page 000", b"page 001", None, None]
    mem.share(PageRange(3, 4))
    assert seen(host, 3) == b"page 003"
    mem.unshare(PageRange(0, 3))
    assert [seen(host, page) for page in range(4)] == [None, None, None, b"page 003"]
    mem.punch(PageRange(3, 5))
    assert seen(host, 3) is None
    mem.share(PageRange(3, 5))
    assert [seen(host, page) for page in (3, 4)] == [bytes(8), bytes(8)]
    host.tell(-1)
    assert host.wait(SOON) == 0


def allocated(memory: PrivateMemory) -> int:
    """Pages that the memory's file holds."""
    return os.fstat(memory.file).st_blocks * 512 // PAGE_SIZE


def test_what_starts_shared_costs_nothing_that_nobody_touched(mem: PrivateMemory) -> None:
    del mem  # it has shown that this can run at all
    pages = 4 * PIECE
    with PrivateMemory(pages * PAGE_SIZE, isolated=True, shared=True) as memory:
        host = memory.spawn(host_programs.peek)
        assert allocated(memory) == 0
        memory.private_write(5 * PAGE_SIZE, b"page 005")
        assert [seen(host, page) for page in (5, pages - 1)] == [b"page 005", bytes(8)]
        assert allocated(memory) == 2
        memory.unshare(PageRange(5, 6))
        assert [seen(host, page) for page in (4, 5, 6, PIECE)] == [bytes(8), None, bytes(8), bytes(8)]
        assert allocated(memory) <= PIECE + 2, "of one piece what goes on being shared"
        memory.punch(PageRange(pages - 1, pages))
        memory.unshare(PageRange(2 * PIECE + 1, 3 * PIECE))
        assert [seen(host, page) for page in (2 * PIECE, 2 * PIECE + 1, pages - 1)] == [bytes(8), None, None]
        memory.unshare(PageRange(0, pages))
        assert {seen(host, page) for page in (0, 4, 6, PIECE, 2 * PIECE, pages - 2)} == {None}
        memory.share(PageRange(5, 6))
        assert seen(host, 5) == b"page 005"


def test_a_window_that_cannot_be_shut_again_is_destroyed(mem: PrivateMemory) -> None:
    mem.share(PageRange(0, PAGES))
    host = mem.spawn(host_programs.replace_window)
    heard(host)
    mem.unshare(PageRange(0, 1))
    assert host.wait(SOON) == -signal.SIGKILL and not mem.is_shared(0) and mem.is_shared(1)
    assert mem.private_read(0, 8) == b"page 000"


def test_what_the_host_writes_while_shared_stays_and_contents_are_kept(mem: PrivateMemory) -> None:
    before = mem.private_read(0, mem.size)
    mem.share(PageRange(0, PAGES))
    host = mem.spawn(host_programs.scribble, PAGE_SIZE + 5, b"from the host")
    assert host.wait(SOON) == 0
    mem.unshare(PageRange(0, PAGES))
    assert mem.private_read(0, mem.size) == before[: PAGE_SIZE + 5] + b"from the host" + before[PAGE_SIZE + 18 :]
    counts, moved = mem.statistics(), 0 if mem.backing == "uffd-rwp" else PAGES
    assert (counts["hyp_copies"], counts["allocations"], counts["tlbi"]) == (moved, moved, 1)


def test_writing_to_a_private_page_ends_the_host_function_not_the_guest(mem: PrivateMemory) -> None:
    host = mem.spawn(host_programs.scribble, 0, b"gotcha")
    done = host.receive(SOON)
    assert done is not None and (done.kind, done.value) == (MessageKind.DONE, 1) and b"PrivateAccess" in done.data
    assert host.wait(SOON) == 1
    assert mem.private_read(0, 8) == b"page 000"


def test_a_bare_load_of_a_private_page_kills_the_host_side(mem: PrivateMemory) -> None:
    mem.share(PageRange(1, 2))
    assert mem.spawn(host_programs.touch, 0).wait(SOON) == -signal.SIGBUS
    assert mem.spawn(host_programs.touch, PAGE_SIZE).wait(SOON) == 0


def test_a_pin_taken_while_shared_holds_only_what_was_shared_then(replacing: PrivateMemory) -> None:
    """The host side may not take one (vmsplice is not among its calls); one taken here has the same frame."""
    replacing.share(PageRange(0, 1))
    receive, transmit = os.pipe()
    address = door.map_anywhere(PAGE_SIZE, replacing.file, 0)
    piece = iovec(address, 8)
    door.syscall("vmsplice", transmit, addressof(piece), 1, 0)
    replacing.unshare(PageRange(0, 1))
    replacing.private_write(0, b"SECRET!!")
    assert os.read(receive, 8) == b"page 000"
    assert replacing.private_read(0, 8) == b"SECRET!!"
    door.unmap(address, PAGE_SIZE)
    os.close(receive)
    os.close(transmit)


def test_it_has_no_descriptor_of_the_memory(mem: PrivateMemory) -> None:
    host = mem.spawn(host_programs.descriptors)
    files = {}
    while (message := host.receive(SOON)) is not None and message.kind is MessageKind.REPORT:
        files[message.value] = message.data
    assert host.wait(SOON) == 0
    assert [fd for fd in files if fd < LOWEST_OWN] == [0, 1, 2]
    null, memory = os.stat("/dev/null"), os.fstat(mem.file)
    assert {files[fd] for fd in range(3)} == {f"{null.st_dev} {null.st_ino}".encode()}
    assert f"{memory.st_dev} {memory.st_ino}".encode() not in files.values()
    assert len(files) == 3 + 2 + SCRATCHES  # the channel and the guard


def test_it_keeps_the_descriptors_it_is_given_but_not_the_memory(mem: PrivateMemory, tmp_path: Path) -> None:
    mem.share(PageRange(0, 1))
    with (tmp_path / "disk").open("w+b") as file:
        assert mem.spawn(host_programs.write_file, fds=(file.fileno(),)).wait(SOON) == 0
        assert (tmp_path / "disk").read_bytes() == mem.private_read(0, PAGE_SIZE)
    again = os.open(f"/proc/self/fd/{mem.file}", os.O_RDWR)
    for fd in (mem.file, again):
        with pytest.raises(Refused) as caught:
            mem.spawn(host_programs.stay, fds=(fd,))
        assert caught.value.errno == errno.EPERM
    os.close(again)


def test_every_way_around_is_refused_and_changes_nothing(mem: PrivateMemory) -> None:
    before = mem.private_read(0, mem.size)
    host = mem.spawn(host_programs.try_everything)
    results = {}
    while (message := host.receive(SOON)) is not None and message.kind is MessageKind.REPORT:
        results[message.data.decode()] = message.value
    assert host.wait(SOON) == 0
    assert len(results) == 25
    assert [name for name, code in results.items() if code == 0] == []
    assert results["x32"] == results["newer"] == errno.ENOSYS
    assert {results[name] for name in ("mremap", "remap_file_pages", "madvise-remove", "io_uring")} == {errno.EPERM}
    assert mem.private_read(0, mem.size) == before


def test_it_runs_as_nobody_without_new_privileges_and_filtered(mem: PrivateMemory) -> None:
    host = mem.spawn(host_programs.stay)
    pid, _ = heard(host)
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert pid == host.pid and status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert {int(status[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    if os.geteuid() == 0:
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
        assert not status["Groups"].strip()
    assert host.kill() == -signal.SIGKILL


@pytest.mark.parametrize(
    "raw",
    [
        b"x",
        b"\xff" * 256,
        b"\0" * 257,
        RECORD.pack(MessageKind.REPORT, 241, 0, b""),
        RECORD.pack(MessageKind.HELLO, 0, 0, b""),
        RECORD.pack(MessageKind.TELL, 0, 0, b""),
        RECORD.pack(99, 0, 0, b""),
    ],
)
def test_a_message_that_is_none_of_ours_ends_the_host_side(mem: PrivateMemory, raw: bytes) -> None:
    host = mem.spawn(host_programs.shout, raw)
    with pytest.raises(Refused) as caught:
        host.receive(SOON)
    assert caught.value.errno == errno.EPROTO
    assert host.wait(SOON) == -signal.SIGKILL


def test_a_descriptor_is_neither_sent_nor_taken(mem: PrivateMemory) -> None:
    done = mem.spawn(host_programs.smuggle).receive(SOON)
    assert done is not None and done.kind is MessageKind.DONE and b"PermissionError" in done.data
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        before = descriptors(sweep=True)
        socket.send_fds(theirs, [RECORD.pack(MessageKind.REPORT, 0, 0, b"")], [2])
        with pytest.raises(Refused) as caught:
            messages.receive(ours, SOON, (MessageKind.REPORT,))
        assert caught.value.errno == errno.EPROTO and descriptors() == before


def test_it_does_not_inherit_the_environment(mem: PrivateMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    host = mem.spawn(host_programs.environment)
    names = {message.data for message in iter(lambda: host.receive(SOON), None) if message.kind is MessageKind.REPORT}
    assert b"PYTHONPATH" in names and b"SECRET_TOKEN" not in names


def test_the_words_of_a_failing_function_arrive(mem: PrivateMemory) -> None:
    host = mem.spawn(host_programs.fail)
    done = host.receive(SOON)
    assert done is not None and done.kind is MessageKind.DONE and b"the device model has a bug" in done.data
    assert host.wait(SOON) == 1


def test_who_waits_for_its_end_hears_it_meanwhile(mem: PrivateMemory, capfd: pytest.CaptureFixture[str]) -> None:
    host = mem.spawn(host_programs.talk)
    assert host.wait(SOON) == 1 and 3 < len(host.words) <= WORDS_MAX and host.words.startswith("xxx")
    host = mem.spawn(host_programs.fail)
    assert host.wait(SOON) == 1 and "the device model has a bug" in host.words
    host = mem.spawn(host_programs.imports_late)
    assert host.wait(SOON) == 1 and host.words.endswith("which is done before they go\n")
    mem.close()
    with pytest.raises(ValueError, match="the memory is closed"):
        host.receive(SOON)
    assert "the device model has a bug" in capfd.readouterr().err


def test_reports_stay_for_who_receives_them(mem: PrivateMemory) -> None:
    host = mem.spawn(host_programs.report_much)
    said = ""
    while "it may wait for what it reported" not in said:
        with pytest.raises(Refused, match="still runs") as refusal:
            host.wait(0.1)
        said = str(refusal.value)
    kinds = [message.kind for message in iter(lambda: host.receive(SOON), None)]
    assert kinds == [MessageKind.REPORT] * 5000 + [MessageKind.DONE] and host.words == "first\n"
    assert host.wait(SOON) == 0


def test_users_of_a_page_wait_while_it_is_replaced(replacing: PrivateMemory) -> None:
    """A sibling thread stores through the guest's view (without the GIL, as a vCPU does) while pages are replaced:
    no store is lost, and no load ever sees anything but the page."""
    stop = threading.Event()
    counter, page = create_string_buffer(8), create_string_buffer(PAGE_SIZE)
    wrong: list[bytes] = []
    stored = 0

    def user() -> None:
        nonlocal stored
        while not stop.is_set():
            memmove(page, replacing.guest_address + PAGE_SIZE, PAGE_SIZE)
            if page.raw != expected:
                wrong.append(page.raw)
            memmove(counter, replacing.guest_address, 8)
            stored += 1
            memmove(replacing.guest_address, (int.from_bytes(counter.raw, "little") + 1).to_bytes(8, "little"), 8)

    expected = replacing.private_read(PAGE_SIZE, PAGE_SIZE)
    replacing.private_write(0, bytes(8))
    thread = threading.Thread(target=user)
    thread.start()
    while not stored and thread.is_alive():
        time.sleep(0)  # until it is at work
    for _ in range(1500):
        replacing.share(PageRange(0, 2))
        replacing.unshare(PageRange(0, 2))
    stop.set()
    thread.join()
    assert not wrong and stored > 0
    assert int.from_bytes(replacing.private_read(0, 8), "little") == stored


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_unshare_that_fails_half_way_is_undone(
    replacing: PrivateMemory, failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages are replaced in pieces; the n-th fails: the host sees all of them as before."""
    monkeypatch.setattr(window, "STEP", 2 * PAGE_SIZE)
    replacing.share(PageRange(1, 7))
    host = replacing.spawn(host_programs.peek)
    backing = replacing._backing
    assert isinstance(backing, IsolatedWindow)
    waiting = backing._replacing._waiting
    register, calls = waiting.register, []

    def limited(address: int, length: int, mode: int) -> None:
        calls.append(address)
        if len(calls) == failing + 1:
            raise OSError(errno.ENOMEM, "no memory")
        register(address, length, mode)

    monkeypatch.setattr(waiting, "register", limited)
    with pytest.raises(Refused) as caught:
        replacing.unshare(PageRange(0, PAGES))
    assert (caught.value.errno, caught.value.offset) == (errno.ENOMEM, PAGE_SIZE)
    for page in range(PAGES):
        assert replacing.is_shared(page) == (1 <= page < 7)
        assert seen(host, page) == (b"page %03d" % page if 1 <= page < 7 else None)
    replacing.unshare(PageRange(0, PAGES))
    assert [seen(host, page) for page in range(PAGES)] == [None] * PAGES
