"""What a kind of memory must do, what its changes count as, and the register of all kinds by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from pagewarden.kernel.door import Descriptor, punch_hole
from pagewarden.kernel.region import Region
from pagewarden.memory.ending import Composed
from pagewarden.vocab import Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pagewarden.memory.isolated.process import HostProcess
    from pagewarden.memory.isolated.room import Lack

Use: TypeAlias = Literal["any", "kvm", "emulated", "host"]
"""Who has the private side: a guest on KVM, on an emulated CPU in this process, either; or no guest at all, but this
program itself, which hides bytes from what it hands its window to."""
BackingName: TypeAlias = Literal["auto", "memfd-secret", "uffd-rwp", "uffd-window", "guest-memfd", "memfd"]
"""What a caller may ask for."""


@dataclass(frozen=True)
class Tariff:
    """The events of one change: so many a page, and so many a call of the backing."""

    page: Mapping[Event, int] = field(default_factory=dict)
    call: Mapping[Event, int] = field(default_factory=dict)


class Compiled(Protocol):
    """Many ranges changed at once, in compiled code."""

    def __call__(self, shared: bytearray, ranges: "NDArray[np.int64]", to: int) -> tuple[int, int, int]:
        """Share (to=1) or unshare (to=0) the ranges, shape (n, 2), in order, until the kernel says no, and keep
        `shared`, a byte a page, up: how many ranges, pages and calls are done. The one that failed is as it was."""


class Single(Protocol):
    """Changes of one range each, in compiled code, without a lock: nothing comes between bolts, kernel and ledger."""

    at: int
    """What they are given before the range."""

    @property
    def share(self) -> Callable[[int, int, int], int]:
        """share(at, start, stop): 1 when the pages are shared now, or were; 0 where those are no pages of the memory,
        some of them and not all, or many, a bolt is drawn, or the kernel said no: then each is as it was, or counts as
        shared and answers after its next access."""

    @property
    def unshare(self) -> Callable[[int, int, int], int]:
        """The same the other way; where the kernel said no they are as they were."""

    def done(self) -> Sequence[tuple[int, int]]:
        """How many pages were unshared, in how many calls; how many shared."""


class Spawn(Protocol):
    """Start a host side in a process of its own and greet it: its window answers in these runs (offset and end, bytes),
    and it runs after `go`."""

    def __call__(
        self,
        function: Callable[..., object],
        arguments: tuple[Any, ...],
        fds: tuple[int, ...],
        patience: float,
        runs: list[tuple[int, int]],
    ) -> "HostProcess": ...


class Backing(Protocol):
    """One memory's pages. Offsets and lengths are bytes, whole pages, inside the memory: the caller has checked them.

    Every change may be asked for again, and its opposite may be asked for at any time: sharing what is shared and
    unsharing what is private change nothing. A method that raises, whatever and wherever, leaves each page of the range
    as it was or as it was to be, with its bytes: the caller puts it right.
    """

    name: str
    whole_file: bool
    """The state belongs to the file as a whole, from its creation on."""
    idle_unshare: bool
    """To unshare what is private costs nothing: a range with holes is one call."""
    sharing: Tariff
    unsharing: Tariff
    punching: Tariff
    guest: Region
    """The guest's and the warden's view; where nobody but a guest may look, nothing is placed in it."""
    file: int
    """The fd of the memory."""

    @property
    def window(self) -> Region | None:
        """The host's view; None where it is in another process."""

    @property
    def compiled(self) -> Compiled | None:
        """The change of many ranges at once, where there is one."""

    @property
    def single(self) -> Callable[[bytearray, int], Single | None] | None:
        """The change of one range in compiled code, which keeps the ledger, a byte a page, up, and looks at the bolts,
        whose address it is given; where there is one now. The first call loads the compiler."""

    @property
    def spawn(self) -> Spawn | None:
        """Where the host's view is in another process: how that is started."""

    @property
    def missing(self) -> "tuple[Lack, ...]":
        """What this host does not have of that process's room."""

    def share(self, offset: int, length: int) -> None:
        """From now on the range answers the host; OSError."""

    def unshare(self, offset: int, length: int) -> None:
        """From now on it does not; OSError."""

    def punch(self, offset: int, length: int) -> None:
        """The bytes are gone, and whoever maps them meets nothing; OSError."""

    def bar(self) -> None:
        """Nothing answers the host any more, for good: what is done when unshare fails; OSError."""

    def forked(self) -> None:
        """In a forked child: close the copies of descriptors. The parent's memory and host side must not notice."""

    def close(self) -> None:
        """Give everything back."""


class FileBacked(Composed):
    """What most kinds have alike: files of their own, and a window of this process that the pages are in."""

    whole_file = False
    idle_unshare = True
    spawn = None
    missing = ()
    window: Region

    def __init__(self) -> None:
        super().__init__()
        self._files: list[Descriptor] = []
        self.file = -1

    def keep(self, file: Descriptor) -> None:
        """Its own from now on; the last one is the memory."""
        self._files.append(self.own(file))
        self.file = file.fd

    def punch(self, offset: int, length: int) -> None:
        punch_hole(self.file, offset, length)

    def bar(self) -> None:
        self.window.bar()

    def forked(self) -> None:
        for file in self._files:
            file.close()


class Wanted(NamedTuple):
    """What a memory is made from."""

    size: int
    shared: bool = False
    """The state that all pages start in; nothing is allocated for it that nobody has touched."""
    vm: int | None = None
    """The KVM VM that a guest-memfd is bound to."""


class BackingKind(NamedTuple):
    """A kind of memory that can be asked for by name."""

    make: Callable[[Wanted], Backing]
    strength: int
    """Of two that fit a use, `auto` tries the stronger first."""
    reasons: Mapping[Use, str]
    """For which uses `auto` may take it, and why it then is the one."""
    stops: str
    """Which of the host's ways to a private page it stops."""
    leaves: str
    """Which it does not."""


KINDS: dict[str, BackingKind] = {}
"""By name, in the order of their strength, strongest first."""
Maker = TypeVar("Maker", bound=Callable[[Wanted], Backing])


def backing(
    name: str, strength: int, reasons: Mapping[Use, str], *, stops: str, leaves: str
) -> Callable[[Maker], Maker]:
    """Enter what is decorated, which makes a Backing of what is Wanted, into the register."""

    def enter(make: Maker) -> Maker:
        KINDS[name] = BackingKind(make, strength, reasons, stops, leaves)
        ordered: Sequence[tuple[str, BackingKind]] = sorted(KINDS.items(), key=lambda item: -item[1].strength)
        KINDS.clear()
        KINDS.update(ordered)
        return make

    return enter
