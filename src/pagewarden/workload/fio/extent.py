"""Where a job's requests begin, how many there are, and what the number behind rw's colon makes of them."""

from pagewarden.workload.fio.given import SectionOptions
from pagewarden.workload.fio.holes import Holes
from pagewarden.workload.fio.runs import Runs
from pagewarden.workload.fio.sizes import Sizes
from pagewarden.workload.fio.units import MAX, whole

BY_REQUESTS = "(--requests)"
"""How a note ends that says that requests were counted instead of bytes."""
NOMINAL_REGION = 1 << 30
"""Bytes over which such requests are spread."""


def start(options: SectionOptions) -> int:
    """Bytes in front of the region."""
    if options.of_device("offset") is None:
        return options.number("offset", 0)
    options.note("an offset in per cent or zones of a device that is not looked at: 0")
    return 0


def amount(options: SectionOptions, files: int, offset: int, largest: int, nominal: int) -> tuple[int, int, int | None]:
    """Region, limit and number of one loop; nominal ones where only the file itself would tell."""
    number = options.number("number_ios", 0) or None
    moved = 0 if options.of_device("io_size") else options.number("io_size", 0)
    share = options.of_device("size")
    size = 0 if share is not None else options.number("size", 0)
    if size and size < largest and not moved and size // files < largest:
        options.given["size"].refuse(f"size as at least one request of {largest} bytes")
    held = (_filesize(options) - offset) * files if "filesize" in options.given else 0
    if held and share is not None:
        size = held * share // 100
    elif held:
        size = min(size, held) if size else held
    if size and not options.set("fill_device"):
        return size, moved or size, number
    if number is None and not moved:
        number = max(1, nominal // options.number("loops", 1, 1))
        options.note(
            f"[{options.section.name}]: the size is its device's, which is not looked at: "
            f"{nominal:,} requests are taken for its costs by request {BY_REQUESTS}"
        )
    return max(NOMINAL_REGION, moved, (number or 0) * largest), moved or MAX // 2, number


def _filesize(options: SectionOptions) -> int:
    option = options.given["filesize"]
    low, dash, high = (option.value or "").partition("-")
    if not dash:
        return whole(option, low, options.kb_base, 1)
    options.note("filesize: every file has the middle of the sizes")
    return (whole(option, low, options.kb_base, 1) + whole(option, high, options.kb_base, 1)) // 2


def sequence(
    options: SectionOptions, random: bool, step: int, sizes: tuple[Sizes, Sizes], offset: int, region: int
) -> tuple[tuple[Holes, Holes] | None, Runs | None]:
    """What the number behind rw's colon asks for, of requests of one size; a note of others. sizes: writes, reads."""
    write, read = (each.largest for each in sizes)
    uniform = all(each.largest == each.smallest for each in sizes)
    if not step or (random and step == 1):
        return None, None
    if random and uniform and write == read:
        return None, _runs(options, read, step, offset, region)
    if not random and uniform:
        return (_holes(options, write, step, offset, region), _holes(options, read, step, offset, region)), None
    mode = options.given["rw"].value or ""
    options.note(f"rw={mode}: placed as {mode.partition(':')[0]}")
    return None, None


def _holes(options: SectionOptions, size: int, step: int, offset: int, region: int) -> Holes:
    """The holes of a job whose requests of one direction have one size."""
    if step < 0 or "io_size" in options.given:
        return Holes(size, step, offset, 1 << 62)
    if "filesize" in options.given:
        return Holes(size, step, offset, _filesize(options), "size" in options.given)
    return Holes(size, step, offset, offset + region)


def _runs(options: SectionOptions, size: int, length: int, offset: int, region: int) -> Runs:
    """The runs of a job whose requests all have one size."""
    room = _filesize(options) - offset if "filesize" in options.given else region
    same = getattr(options.given.get("rw_sequencer"), "value", None) == "identical"
    length = length if length > 0 else MAX  # fio takes what is below 0 without its sign bit
    return Runs(length, same, room % size > 0, max(1, room // size))


def loops_of(options: SectionOptions, passes: bool, region: int, limit: int) -> tuple[int, int]:
    """Bytes of one loop, and loops. passes: a loop ends with its pass over the region, and io_size asks for further
    ones where the loops are over before it is reached."""
    loops = options.number("loops", 1, 1)
    once = min(limit, region) if passes else limit
    return (once, loops) if loops * once >= limit else (limit, 1)
