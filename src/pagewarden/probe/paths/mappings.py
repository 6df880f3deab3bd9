"""Other mappings of the window's page: inherited by fork, moved, doubled, made again, or opened by mprotect."""

from collections.abc import Callable

from pagewarden.abi.memory import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE
from pagewarden.kernel.door import syscall
from pagewarden.kernel.mappings import Mapping, mappings
from pagewarden.probe import raw
from pagewarden.probe.paths.streams import load, store
from pagewarden.probe.registry import Attempt, Direction, Target, path

READ, WRITE = Direction.READ, Direction.WRITE
USES = (READ, raw.look, "look"), (WRITE, raw.poke, "write")
READABLE_AND_WRITABLE = 3


def register(name: str, about: str, hold: Callable[[Target], int]) -> None:
    """Paths that make themselves an address of the page and use it."""
    for direction, use, what in USES:

        @path(name, direction, about=f"{about}, then a {what}", calls=(name.split("-")[0],))
        def at_once(target: Target, use: Callable[[int], bytes] = use) -> bytes:
            return use(hold(target))


def register_before(name: str, about: str, hold: Callable[[Target], int]) -> None:
    """The same with the conversion in between."""
    for direction, use, what in USES:

        @path(f"{name}-before", direction, about=f"{about} before the conversion, a {what} after it", calls=("mremap",))
        def later(target: Target, use: Callable[[int], bytes] = use) -> Attempt:
            address = hold(target)
            yield
            return use(address)


def moved(target: Target) -> int:
    """The page at another address, gone from the window."""
    flags = MREMAP_MAYMOVE | MREMAP_FIXED
    return syscall("mremap", target.address, target.length, target.length, flags, raw.own_memory(target.length))


def emptied(target: Target) -> int:
    """The page at another address, the window mapped as before but empty: so the warden's calls on it still work."""
    flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP
    return syscall("mremap", target.address, target.length, target.length, flags, 0)


def doubled(target: Target) -> int:
    """The page at another address as well: mremap from nothing duplicates a shared mapping."""
    return syscall("mremap", target.address, 0, target.length, MREMAP_MAYMOVE, 0)


def opened(target: Target) -> int:
    """The page where it is, with every permission."""
    syscall("mprotect", target.address, target.length, READABLE_AND_WRITABLE)
    return target.address


def replaced(target: Target) -> int:
    """The page where it is, mapped afresh by remap_file_pages(2), which needs no descriptor."""
    syscall("remap_file_pages", target.address, target.length, 0, place_of(target) // target.length, 0)
    return target.address


def mapping_of(target: Target) -> Mapping:
    """The mapping that the page lies in; FileNotFoundError."""
    for each in mappings(target.host):
        if each.start <= target.address < each.stop:
            return each
    raise FileNotFoundError(2, "the window is not mapped here")


def place_of(target: Target) -> int:
    """The page's offset in its file, bytes."""
    found = mapping_of(target)
    return found.offset + target.address - found.start


register("mremap", "mremap(2) to another address", moved)
for _register in register, register_before:
    _register("mremap-dontunmap", "mremap(2) to another address, leaving the window mapped", emptied)
    _register("mremap-dup", "mremap(2) with size 0, which doubles a shared mapping", doubled)
register("mprotect", "mprotect(READ | WRITE)", opened)
register("remap_file_pages", "remap_file_pages(2) over the page", replaced)


def _register_fork(direction: Direction, touch: Callable[[Target], bytes], does: str, where: str) -> None:
    @path("fork", direction, about=f"A forked process {does} {where} the window.")
    def now(target: Target) -> bytes:
        return raw.elsewhere(lambda: touch(target))

    before = "A process forked before the conversion, which has touched the page then"

    @path("fork-before", direction, about=f"{before}, {does} after it.")
    def later(target: Target) -> Attempt:
        helper = raw.Helper(lambda: touch(target), before=lambda: load(target))
        yield
        return helper.result()


_register_fork(READ, load, "loads", "from")
_register_fork(WRITE, store, "stores", "to")
