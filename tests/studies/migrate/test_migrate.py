"""A guest that does its I/O goes to another process meanwhile: it is in one place, whole, whatever happens."""

import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from moving_kit import KEY, Wire, cut_at, flipped_at
from pagewarden.keep.moving import Tickets
from pagewarden.keep.moving.channel import MAGIC
from pagewarden.kernel.listening import connected, listening_at
from pagewarden.studies.migrate.destination import arrive
from pagewarden.studies.migrate.plan import Migration
from pagewarden.studies.migrate.source import migrate
from pagewarden.studies.run.disk import open_disk
from pagewarden.studies.run.one import Run, run
from pagewarden.studies.run.plan import RunPlan, default_mix
from pagewarden.vocab import UserMistake

MIX = default_mix(24)
PLAN = RunPlan(cpu="unicorn", verify=True, batch=2)


class There:
    """A destination in a thread; `back` wraps the connections that come to it."""

    def __init__(self, folder: Path, plan: RunPlan, back: Callable[[socket.socket], Any]) -> None:
        self.said: list[str] = []
        self.found: Migration | None = None
        self.error: BaseException | None = None
        self._opened = ExitStack()
        disk = self._opened.enter_context(open_disk(MIX, folder / "disk", True, make=True, take=False))
        listener, self.where = self._opened.enter_context(listening_at("127.0.0.1:0"))
        self.listener = _Accepts(listener, back)
        self._thread = threading.Thread(target=self._arrive, args=(plan, disk, Tickets(folder / "tickets")))
        self._thread.start()

    def _arrive(self, plan: RunPlan, disk: Any, tickets: Tickets) -> None:
        try:
            self.found = arrive(plan, MIX, disk, KEY, tickets, self.listener, say=self.said.append, look=False)  # type: ignore[arg-type]
        except BaseException as error:
            self.error = error

    def over(self) -> Migration | None:
        self._thread.join()
        return self.found

    def given_up(self) -> Migration | None:
        """It waits for a guest that does not come."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        return self.over()

    def close(self) -> None:
        self.given_up()
        self._opened.close()


class _Accepts:
    def __init__(self, behind: socket.socket, back: Callable[[socket.socket], Any]) -> None:
        self._behind, self._back = behind, back
        self.fileno, self.shutdown = behind.fileno, behind.shutdown

    def accept(self) -> tuple[Any, Any]:
        connection, address = self._behind.accept()
        return _Closing(self._back(connection)), address


class _Closing:
    def __init__(self, behind: Any) -> None:
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    def __enter__(self) -> "_Closing":
        return self

    def __exit__(self, *failure: object) -> None:
        self._behind.close()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Callable[..., There]]:
    made: list[There] = []

    def start(plan: RunPlan = PLAN, back: Callable[[socket.socket], Any] = Wire) -> There:
        made.append(There(tmp_path, plan, back))
        return made[-1]

    yield start
    for each in made:
        each.close()


def sent(
    there: There, folder: Path, plan: RunPlan = PLAN, out: Callable[[socket.socket], Any] = Wire, key: bytes = KEY,
    **options: Any,
) -> Migration:  # fmt: skip
    """The source, in this thread; `out` wraps its first connection."""
    wraps = iter([out])

    def connect() -> Any:
        return next(wraps, Wire)(connected(there.where, 10))

    with open_disk(options.pop("workload", MIX), folder / "disk", True) as disk:
        return migrate(plan, MIX, disk, key, connect, look=False, **options)


@pytest.fixture(scope="module")
def whole() -> Run:
    with open_disk(MIX, None, True) as disk:
        return run(PLAN, MIX, disk, look=False)


def _halves(one: Run, other: Run, whole: Run) -> None:
    assert one.requests and other.requests and one.requests + other.requests == 24
    for counts in ("counts", "overhead"):
        both = Counter(getattr(one, counts)) + Counter(getattr(other, counts))
        assert both == +Counter(getattr(whole, counts))


@pytest.mark.parametrize("cpus", [("unicorn", "unicorn"), ("kvm", "unicorn"), ("unicorn", "kvm")], ids="-".join)
def test_both_sides_together_did_all_of_it(
    there: Callable[..., There], tmp_path: Path, whole: Run, cpus: tuple[str, str], request: pytest.FixtureRequest
) -> None:
    if "kvm" in cpus:
        request.getfixturevalue("vm")
    one, other = (replace(PLAN, cpu=cpu, design="iommu" if "kvm" in cpus else "window") for cpu in cpus)
    destination = there(other)
    source = sent(destination, tmp_path, one)
    came = destination.over()
    assert source.moved and source.good and source.downtime and came is not None and came.good
    assert came.run.differs == 0 and not destination.said
    assert came.pages == source.pages >= 15, "as many as a guest has that stands before its first doorbell, at least"
    if one.design == "window":
        _halves(source.run, came.run, whole)


def test_where_the_wire_is_cut_it_stays_and_can_go_again(
    there: Callable[..., There], tmp_path: Path, whole: Run
) -> None:
    """At points all along the way, and with a byte changed: it runs to its end here, as if nothing had been."""
    destination = there()
    ways: list[Callable[[socket.socket], Wire]] = [
        *(partial(cut_at, place) for place in (0, 70, 400, 60_000, 150_000)),
        _flip,
    ]
    for out in ways:
        stayed = sent(destination, tmp_path, out=out)
        assert not stayed.moved and stayed.status == 2 and ("changed" if out is _flip else "connection") in stayed.why
        assert stayed.run.differs == 0 and stayed.run.counts == whole.counts and stayed.run.outcome.failures == 0
    assert sent(destination, tmp_path).moved
    came = destination.over()
    assert came is not None and came.run.differs == 0 and len(destination.said) == len(ways)


def _flip(behind: socket.socket) -> Wire:
    return flipped_at(100_000, behind)


def test_a_source_that_does_not_hear_asks(there: Callable[..., There], tmp_path: Path) -> None:
    """The destination's last word is lost: it runs the guest, and answers beside it."""
    wires = iter([_dumb(tmp_path / "tickets")])
    destination = there(back=lambda behind: next(wires, Wire)(behind))
    said: list[str] = []
    source = sent(destination, tmp_path, say=said.append)
    assert source.moved and source.good and len(said) == 1 and "asking" in said[0]
    came = destination.over()
    assert came is not None and came.run.differs == 0


def _dumb(tickets: Path) -> Callable[[socket.socket], Wire]:
    """From when the guest is taken nothing goes."""

    def wire(behind: socket.socket) -> Wire:
        def change(before: int, data: bytes) -> bytes | None:
            if any(os.readlink(ticket) == "taken" for ticket in tickets.iterdir()):
                behind.shutdown(socket.SHUT_RDWR)
                return None
            return data

        return Wire(behind, change)

    return wire


def test_who_has_another_key_or_another_guest_is_refused_and_told(there: Callable[..., There], tmp_path: Path) -> None:
    destination = there()
    stayed = sent(destination, tmp_path, key=bytes(32))
    assert not stayed.moved and "another" in stayed.why
    for plan, why in ((replace(PLAN, batch=3), "pages comes"), (replace(PLAN, design="iommu"), "pages comes")):
        stayed = sent(destination, tmp_path, plan)
        assert not stayed.moved and why in stayed.why and stayed.run.differs == 0
    assert destination.given_up() is None
    assert len(destination.said) == 3 and "another key" in destination.said[0]


def test_silent_strangers_hold_no_guest_up(there: Callable[..., There], tmp_path: Path) -> None:
    destination = there()
    heard: list[str] = []
    with connected(destination.where, 10) as silent, connected(destination.where, 10) as half:
        half.sendall(MAGIC)

        def looks(done: int, total: int) -> None:
            for stranger in (silent, half):
                stranger.setblocking(False)
                with pytest.raises(BlockingIOError):  # nobody has hung up: their patience is not over
                    stranger.recv(1)
            heard.append("both")

        assert sent(destination, tmp_path, tell=looks).moved and heard
    assert destination.over() is not None


def test_what_cannot_move_is_said_before_anything_runs(tmp_path: Path) -> None:
    def nobody() -> socket.socket:
        return connected(str(tmp_path / "nobody"), 1)

    with open_disk(MIX, tmp_path / "disk", True, make=True) as disk:
        for plan, why in (
            (PLAN, "nobody answers"), (replace(PLAN, isolated=True), "cooperating"),
            (replace(PLAN, cpu="interpreted"), "interpreted"), (replace(PLAN, batch=24), "no half way"),
        ):  # fmt: skip
            with pytest.raises(UserMistake, match=why):
                migrate(plan, MIX, disk, KEY, nobody, look=False)


def test_ctrl_c_ends_the_guest_wherever_it_is(there: Callable[..., There], tmp_path: Path) -> None:
    destination = there()

    def struck(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sent(destination, tmp_path, tell=struck)
    assert "pagewarden-guest" not in {thread.name for thread in threading.enumerate()}
    assert sent(destination, tmp_path).moved  # the disk is free again, and so is the destination
