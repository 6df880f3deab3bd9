"""Several threads on one memory: what a sibling sees while pages are converted thousands of times."""

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, PrivateMemory, Refused
from waits import SOON

ROUNDS = 30_000 if os.environ.get("PAGEWARDEN_LONG") == "1" else 3_000
DATA = os.urandom(2 * PAGE_SIZE)


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(params=["uffd-window", "memfd-secret"])
def mem(request: pytest.FixtureRequest) -> Iterator[PrivateMemory]:
    memory = PrivateMemory(4 * PAGE_SIZE, request.param)
    with memory:
        memory.populate(0, DATA * 2)
        yield memory


class Sibling:
    """A thread that repeats something until the block ends; what it raised comes back then."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action
        self.turns = 0
        self.error: BaseException | None = None
        self._stop, self._begun = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.action()
                self.turns += 1
                self._begun.set()
        except BaseException as error:
            self.error = error
            self._begun.set()

    def __enter__(self) -> "Sibling":
        self._thread.start()
        assert self._begun.wait(SOON)
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.error is not None:
            raise self.error


def convert(mem: PrivateMemory, pages: PageRange) -> None:
    for _ in range(ROUNDS):
        mem.share(pages)
        mem.unshare(pages)


def test_accessors_see_all_of_a_page_or_are_refused(mem: PrivateMemory) -> None:
    outcomes = set()

    def read() -> None:
        try:
            assert mem.window.read(100, 2 * PAGE_SIZE - 100) == DATA[100:]
            outcomes.add("data")
        except PrivateAccess as refusal:
            outcomes.add(f"refused at page {refusal.offset // PAGE_SIZE if refusal.offset is not None else None}")

    with Sibling(read):
        convert(mem, PageRange(0, 2))
        mem.share(PageRange(0, 2))
        read()
        mem.unshare(PageRange(0, 2))
        read()
    assert outcomes <= {"data", "refused at page 0", "refused at page 1"} and len(outcomes) >= 2


def test_system_calls_on_the_mapping_see_old_bytes_or_fault(mem: PrivateMemory) -> None:
    """No library in between: what the kernel copies out of the window itself."""
    sink, view = os.memfd_create("sink"), mem.window.memory[:PAGE_SIZE]
    outcomes = set()

    def read() -> None:
        try:
            count = os.pwrite(sink, view, 0)
            assert os.pread(sink, count, 0) == DATA[:count] and count > 0
            outcomes.add("data")
        except OSError as error:
            assert error.errno == errno.EFAULT
            outcomes.add("fault")

    with Sibling(read):
        convert(mem, PageRange(0, 1))
        read()
        mem.share(PageRange(0, 1))
        read()
    os.close(sink)
    assert outcomes == {"data", "fault"}


def test_a_neighbour_that_stays_shared_never_faults(mem: PrivateMemory) -> None:
    mem.share(PageRange(3, 4))
    neighbour = mem.window.memory[3 * PAGE_SIZE :]

    def load() -> None:
        assert bytes(neighbour) == DATA[PAGE_SIZE:]

    with Sibling(load) as sibling:
        convert(mem, PageRange(0, 3))
    assert sibling.turns > 0


def test_stores_of_the_guest_survive_conversions(mem: PrivateMemory) -> None:
    """The warden's side goes on writing while the host's view opens and shuts: nothing is lost."""
    written = 0

    def store() -> None:
        nonlocal written
        mem.private_write(0, (written + 1).to_bytes(8, "little"))
        written += 1

    with Sibling(store):
        convert(mem, PageRange(0, 1))
    assert int.from_bytes(mem.private_read(0, 8), "little") == written > 0


def test_an_accessor_waits_for_a_conversion_under_way(mem: PrivateMemory) -> None:
    begun, reading, results = threading.Event(), threading.Event(), []

    class Slow:
        def invalidate_begin(self, pages: PageRange) -> None:
            begun.set()
            assert reading.wait(SOON)

        def invalidate_end(self, pages: PageRange) -> None:
            pass

    def read() -> None:
        begun.wait(SOON)
        threading.Timer(0.05, reading.set).start()  # by then the reader has met the private page
        results.append(mem.window.read(0, 8))

    reader = threading.Thread(target=read)
    reader.start()
    mem.subscribe(Slow())
    mem.share(PageRange(0, 1))
    reader.join()
    assert results == [DATA[:8]]


def test_a_reference_may_be_dropped_by_another_thread_while_a_consumer_is_told(mem: PrivateMemory) -> None:
    """A vCPU thread lets go of the page because the listener asked it to: that must not need the memory's lock."""
    hold = mem.hold(PageRange(0, 1))

    class Asks:
        def invalidate_begin(self, pages: PageRange) -> None:
            thread = threading.Thread(target=hold.release)
            thread.start()
            thread.join()

        def invalidate_end(self, pages: PageRange) -> None:
            pass

    mem.subscribe(Asks())
    mem.share(PageRange(0, 1))
    assert mem.is_shared(0)


def test_threads_that_convert_and_hold_at_will_leave_it_consistent(mem: PrivateMemory) -> None:
    def churn(first: int) -> Callable[[], None]:
        pages = PageRange(first, first + 2)

        def turn() -> None:
            for call in (mem.share, mem.unshare):
                try:
                    with mem.hold(PageRange((first + 2) % 4, (first + 2) % 4 + 1)):
                        call(pages)
                except Refused as refusal:
                    assert refusal.errno == errno.EAGAIN

        return turn

    with Sibling(churn(0)), Sibling(churn(1)), Sibling(churn(2)):
        convert_while_refused(mem)
    for page in range(4):
        try:
            mem.window.read(page * PAGE_SIZE, 1)
            assert mem.is_shared(page)
        except PrivateAccess:
            assert not mem.is_shared(page)
    assert mem.private_read(0, mem.size) == DATA * 2


def convert_while_refused(mem: PrivateMemory) -> None:
    for _ in range(ROUNDS // 10):
        try:
            mem.share(PageRange(0, 4))
        except Refused:
            continue
