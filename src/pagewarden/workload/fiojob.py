"""A fio job file turned into what its jobs will ask for: every option is used, noted, or refused with its line."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pagewarden.vocab import UserMistake
from pagewarden.workload.jobfile import Option, Section
from pagewarden.workload.lines import mistake
from pagewarden.workload.model import MAX_LENGTH
from pagewarden.workload.options import CHANGES, ENGINES, HARMLESS, KNOWN, NEUTRAL, SYNCHRONOUS, TOLERATED, USED
from pagewarden.workload.sizes import Sizes, Span, Split
from pagewarden.workload.units import MAX, by_direction, span, switch, whole

MODES = {  # rw -> (random, percentage of reads; None: rwmixread decides)
    "read": (False, 100),
    "write": (False, 0),
    "rw": (False, None),
    "readwrite": (False, None),
    "randread": (True, 100),
    "randwrite": (True, 0),
    "randrw": (True, None),
}
MAX_MAP = 1 << 22
"""Blocks that are remembered as used; in a larger region few are drawn twice anyway."""
MAX_COPIES = 4096
"""Copies of one job (numjobs)."""


@dataclass(frozen=True, slots=True)
class Job:
    """One section's requests, before they are drawn."""

    name: str
    random: bool  # offsets are drawn; else they follow each other
    mapped: bool  # offsets are drawn so that no block comes again before all have come (fio's random map)
    reads: int  # per cent of the requests
    read_sizes: Sizes
    write_sizes: Sizes
    offset: int  # bytes: where the region starts
    step: int  # bytes: every further copy starts so much later (offset_increment)
    region: int  # bytes: size
    limit: int  # bytes to move in all: io_size, else size, times loops
    number: int | None  # requests at most (number_ios)
    copies: int  # numjobs
    seed: int
    depth: int  # requests in flight for each copy
    wait: bool  # stonewall: starts when all jobs above are done


class _Options:
    """A section's options with fio's units."""

    def __init__(self, path: Path, section: Section) -> None:
        self.path, self.section, self.given = path, section, section.options
        self.kb_base = int(self.choice("kb_base", "1024", ("1024", "1000")))

    def number(self, key: str, default: int, low: int = 0, high: int = MAX) -> int:
        option = self.given.get(key)
        return default if option is None else whole(option, None, self.kb_base, low, high)

    def choice(self, key: str, default: str, allowed: Mapping[str, object] | frozenset[str] | tuple[str, ...]) -> str:
        option = self.given.get(key)
        if option is None:
            return default
        if option.value is None or option.value not in allowed:
            option.refuse(f"{key} as one of {', '.join(sorted(allowed))}")
        return option.value


def read_job(path: Path, section: Section, notes: dict[str, None]) -> Job:
    """What the section asks for; remarks go to `notes` (a dict for its order). UserMistake names the line at fault."""
    _sort_out(section, notes)
    options = _Options(path, section)
    if "size" not in section.options:
        raise mistake(path, section.line, f"[{section.name}]", "size=BYTES in the job (no file of it is looked at)")
    random, share = MODES[options.choice("rw", "read", MODES)]
    reads, again = _reads(options), switch(section.options.get("norandommap"))
    reads = reads if share is None else share
    read_sizes, write_sizes = _sizes(options, reads)
    region = options.number("size", 0, max(read_sizes.largest, write_sizes.largest))
    return Job(
        name=section.name,
        random=random,
        reads=reads,
        read_sizes=read_sizes,
        write_sizes=write_sizes,
        mapped=random and not again and _mapped(region, read_sizes, write_sizes, notes),
        offset=options.number("offset", 0),
        step=options.number("offset_increment", 0),
        region=region,
        limit=_limit(options, region),
        number=options.number("number_ios", 0) or None,
        copies=options.number("numjobs", 1, 1, MAX_COPIES),
        seed=options.number("randseed", 0),
        depth=_depth(options, notes),
        wait=switch(section.options.get("stonewall")),
    )


def _sort_out(section: Section, notes: dict[str, None]) -> None:
    """Refuse what is unknown or would change the requests, and note what is passed over."""
    ignored = sorted(key for key in section.options if key in HARMLESS - {"name", "description", "filename"})
    for key, option in section.options.items():
        if key in TOLERATED and option.value != "0":
            notes[f"{key}: {TOLERATED[key]}"] = None
        elif key in CHANGES and option.value not in NEUTRAL.get(key, ()):
            option.refuse(
                f"no {key}: it would change the requests and is not supported (supported are {', '.join(sorted(USED))})"
            )
        elif key not in KNOWN:
            near = difflib.get_close_matches(key, KNOWN, n=1)
            option.refuse(f"an option of fio{f' (did you mean {near[0]}?)' if near else ''}")
        elif key == "filename" and ":" in (option.value or "").replace("\\:", ""):
            option.refuse("one file (the size would be divided among several)")
    if ignored:
        notes[f"options that change no request: {', '.join(ignored)}"] = None


def _reads(options: _Options) -> int:
    """Per cent of reads in a mixed job; of rwmixread and rwmixwrite the one given last counts."""
    last = [key for key in options.given if key in ("rwmixread", "rwmixwrite")][-1:]
    if not last:
        return 50
    share = options.number(last[0], 50, 0, 100)
    return share if last[0] == "rwmixread" else 100 - share


def _depth(options: _Options, notes: dict[str, None]) -> int:
    engine, depth = options.choice("ioengine", "psync", ENGINES), options.number("iodepth", 1, 1, 1 << 20)
    if depth > 1 and engine in SYNCHRONOUS:
        notes[f"iodepth={depth} has no effect with ioengine={engine}: one request in flight"] = None
        return 1
    return depth


def _limit(options: _Options, region: int) -> int:
    """Bytes to move in all."""
    loops = options.given.get("loops")
    if loops is not None and "io_size" in options.given:
        loops.refuse("either loops or io_size (fio 3.33 does not multiply the one with the other)")
    return (options.number("io_size", 0) or region) * options.number("loops", 1, 1)


def _mapped(region: int, read: Sizes, write: Sizes, notes: dict[str, None]) -> bool:
    """Whether random offsets follow a map here; fio's mixes units up when the smallest sizes differ."""
    if read.smallest != write.smallest:
        notes["reads and writes of different smallest size: offsets drawn as with norandommap"] = None
    elif region // read.smallest > MAX_MAP:
        notes[f"more than {MAX_MAP} blocks: offsets drawn as with norandommap"] = None
    else:
        return True
    return False


def _sizes(options: _Options, reads: int) -> tuple[Sizes, Sizes]:
    """Sizes of reads and of writes: bssplit goes before bsrange, and that before bs, wherever they stand (fio 3.33).

    Where only one direction occurs, both are given its sizes.
    """
    for key, parse in (("bssplit", _split), ("bsrange", _range), ("bs", _fixed)):
        option = options.given.get(key)
        if option is not None:
            read, write = by_direction(option)
            read, write = (read if reads else write), (write if reads < 100 else read)
            return parse(options, option, read), parse(options, option, write)
    return Span(4096, 4096, 4096), Span(4096, 4096, 4096)


def _fixed(options: _Options, option: Option, text: str | None) -> Sizes:
    size = 4096 if text is None else whole(option, text, options.kb_base, 1, MAX_LENGTH)
    return Span(size, size, size)


def _range(options: _Options, option: Option, text: str | None) -> Sizes:
    if text is None:
        option.refuse("bsrange as LOW-HIGH[,LOW-HIGH]")
    low, high = span(option, text, options.kb_base, 1, MAX_LENGTH)
    return Span(low, high, 1 if switch(options.given.get("bs_unaligned")) else low)


def _split(options: _Options, option: Option, text: str | None) -> Sizes:
    """SIZE/PERCENT:SIZE/PERCENT...; sizes without a percentage share what is left."""
    sizes, shares = [], []
    for part in (text or "").split(":"):
        size, _, share = part.partition("/")
        sizes.append(whole(option, size, options.kb_base, 1, MAX_LENGTH))
        shares.append(whole(option, share, 1024, 0, 100) if share else None)
    left = 100 - sum(share for share in shares if share is not None)
    open_shares = shares.count(None)
    if left < 0 or (left > 0 and not open_shares):
        option.refuse("percentages that add up to 100")
    return Split(tuple(sizes), tuple(left / open_shares if share is None else float(share) for share in shares))


def check_total(path: Path, jobs: list[Job], most: int) -> None:
    """UserMistake if the jobs would make more requests than `most`."""
    total = 0
    for job in jobs:
        smallest = min(job.read_sizes.smallest, job.write_sizes.smallest)
        total += job.copies * min(job.number or MAX, -(-job.limit // smallest))
    if total > most:
        raise UserMistake(
            f"{path}: the jobs make up to {total} requests, more than the {most} that are drawn at once; "
            "set number_ios or io_size"
        )
