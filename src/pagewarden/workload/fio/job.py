"""What a section asks for: every option is used, noted, passed over or refused with its line. Checked with fio 3.33."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pagewarden.workload.fio.extent import BY_REQUESTS, extent, start
from pagewarden.workload.fio.given import SectionOptions
from pagewarden.workload.fio.issue import FioRules
from pagewarden.workload.fio.options import known
from pagewarden.workload.fio.sections import Section
from pagewarden.workload.fio.sizes import Sizes, sizes_of
from pagewarden.workload.fio.units import MAX, by_direction, switch, whole
from pagewarden.workload.lines import Int64s

MODES = {  # rw -> (random, percentage of reads; None: rwmixread decides)
    "read": (False, 100),
    "write": (False, 0),
    "trim": (False, 0),
    "rw": (False, None),
    "readwrite": (False, None),
    "randread": (True, 100),
    "randwrite": (True, 0),
    "randtrim": (True, 0),
    "randrw": (True, None),
    "trimwrite": (False, 0),
    "randtrimwrite": (True, 0),
}
NOMINAL = 10_000
"""Requests of a job whose size only its file or device would tell."""
MAX_DRAWN = 1 << 25
"""Requests of all jobs together (about 0.5 GiB of columns)."""
MAX_COPIES = 4096
"""Copies of one job (numjobs)."""
MAX_BLOCKS = 1 << 33
"""Blocks of a random map, a bit each; among more of them no two of the requests that are drawn meet."""


@dataclass(frozen=True, slots=True)
class FioJob:
    """One section's requests, before they are drawn. Sizes are bytes."""

    name: str
    asked: FioRules  # what its first copy does
    held: int  # by each of its files; 0: what it does with them
    mean: float  # of a request, before a map cuts any
    trims: bool  # its writes are trims, which move no data
    step: int  # every further copy starts so much later (offset_increment)
    copies: int  # numjobs
    seed: int
    depth: int  # requests in flight for each copy
    wait: bool  # stonewall: starts when all jobs above are done
    after: str | None  # starts when the job of this name is done (wait_for)
    direct: bool  # no page cache (direct=1)
    place: str  # the file or device that it was given

    @property
    def expected(self) -> float:
        """Requests, roughly."""
        asked = self.asked
        return self.copies * asked.loops * min(asked.number or MAX, asked.limit / self.mean)

    @property
    def end(self) -> int:
        """No request of a copy reaches beyond."""
        return self.asked.start + self.step * self.copies + int(self.asked.regions.sum())

    def of_copy(self, copy: int) -> FioRules:
        """What one of the copies does, which are numbered from 0."""
        behind, regions = self.step * copy, self.asked.regions
        held = np.maximum(0, regions - behind) if self.held else regions
        return self.asked._replace(start=self.asked.start + behind, regions=held)


def read_job(section: Section, notes: dict[str, None], nominal: int = NOMINAL) -> FioJob | None:
    """What the section asks for; None when its engine moves no data of a file. UserMistake names the line at fault.

    notes: remarks are put in (a dict for its order). nominal: requests of a job whose size is not in the file.
    """
    options = SectionOptions(section, notes)
    _sort_out(options)
    engine = _engine(options)
    if engine in known().idle:
        options.note(f"[{section.name}]: ioengine={engine} moves no data of a file or device: left out")
        return None
    mode, step = _mode(options)
    files, place = _files(options)
    depth = _depth(options, engine)
    at_once = depth == 1 if engine == "null" else engine in known().synchronous
    asked, held, mean = _asked(options, mode, step, files, nominal)
    if at_once:  # backend.c, io_queue_event: of requests that are queued alone it counts the bytes of a pass
        asked = asked._replace(size=MAX)
    if engine == "null" and held and "size" not in section.options:  # filesetup.c: nothing says where its files end
        asked = asked._replace(end=MAX)
    return FioJob(
        name=section.name,
        asked=asked,
        held=held,
        mean=mean,
        trims=mode in ("trim", "randtrim"),
        step=0 if options.of_device("offset_increment") else options.number("offset_increment", 0),
        copies=options.number("numjobs", 1, 1, MAX_COPIES),
        seed=options.number("randseed", 0x89),
        depth=depth,
        wait=switch(section.options.get("stonewall")),
        after=getattr(section.options.get("wait_for"), "value", None),
        direct=switch(section.options.get("direct")) or _unbuffered(section),
        place=place,
    )


def _asked(options: SectionOptions, mode: str, step: int, files: int, nominal: int) -> tuple[FioRules, int, float]:
    """The requests, what each file holds (0: what they need), and the mean size of a request."""
    random, share = MODES[mode]
    mixed, anywhere = _reads(options), switch(options.given.get("norandommap"))
    reads = mixed if share is None else share
    both = sizes_of(options, random)
    unit, largest = min(sizes.smallest for sizes in both), max(sizes.largest for sizes in both)
    mean = (reads * both[0].mean + (100 - reads) * both[1].mean) / 100
    offset = start(options)
    regions, held, size, io_size, number = extent(options, files, offset, unit, largest, nominal)
    align = _align(options, both)
    mapped = random and not anywhere and _mapped(options, align == [sizes.smallest for sizes in both])
    loops = options.number("loops", 1, 1)
    limit = min(io_size or size, MAX // loops)
    if mapped and options.set("time_based") and limit >= regions.sum() and mean < largest:
        options.note(
            f"[{options.section.name}]: a whole pass of its random map is drawn, as fio draws pass after pass, and "
            "requests are cut where blocks are taken; a run that ends before has "
            f"longer ones, {mean / 1024:.3g} KiB (norandommap=1)"
        )
    asked = FioRules(
        regions=regions,
        start=offset,
        end=0 if options.of_device("size") else size // files,
        size=max(size, io_size) if random and not mapped and reads < 100 else size,
        limit=limit,
        more=io_size > 0,
        loops=loops,
        number=number,
        unit=unit,
        low=np.array([sizes.smallest for sizes in both]),
        high=np.array([sizes.largest for sizes in both]),
        step=np.array([sizes.step for sizes in both]),
        split=_table([[size for size, _ in sizes.choices] for sizes in both]),
        share=_table([np.cumsum([share for _, share in sizes.choices]) for sizes in both]),
        align=np.array(align),
        reads=reads,
        random=np.array(_random(options) if random else [-1, -1]),
        run=(step if step > 0 else MAX) if random and step else 1,  # fio takes what is below 0 without its sign bit
        same=random and getattr(options.given.get("rw_sequencer"), "value", None) == "identical",
        hole=0 if random else step,
        mapped=mapped and int(regions.max()) // unit <= MAX_BLOCKS,
        cut=getattr(options.given.get("random_generator"), "value", None) != "lfsr",
        again=reads < 100 and options.set("verify") and options.number("do_verify", 1) == 1,
        repeat=options.number("randrepeat", 1) > 0,
    )
    return asked, held, mean


def _table(rows: Sequence[Sequence[int] | Int64s]) -> Int64s:
    """Rows of whole numbers, the shorter ones filled up with 0."""
    made = np.zeros((len(rows), max(1, *map(len, rows))), np.int64)
    for row, values in zip(made, rows, strict=True):
        row[: len(values)] = values
    return made


def sampled(jobs: list[FioJob], notes: dict[str, None], nominal: int) -> list[FioJob]:
    """The jobs, and of those that have more requests than can be drawn the first ones, with a note."""
    found, left = list(jobs), sum(job.expected for job in jobs)
    for job in sorted(jobs, key=lambda job: -job.expected):
        if left <= MAX_DRAWN:
            break
        notes[
            f"[{job.name}]: of its some {job.expected:,.0f} requests the first {nominal:,} of each copy are taken, "
            f"for its costs by request {BY_REQUESTS}"
        ] = None
        found[jobs.index(job)] = replace(job, asked=job.asked._replace(number=nominal, loops=1, again=False))
        left -= job.expected
    return found


def _unbuffered(section: Section) -> bool:
    option = section.options.get("buffered")
    return option is not None and option.value == "0"


def _sort_out(options: SectionOptions) -> None:
    """Refuse what is unknown or would change the requests, and note what is passed over."""
    table, passed = known(), []
    outside = _engine(options) in table.external
    for key, option in options.given.items():
        if key in table.noted and options.set(key):
            options.note(f"{key}: {table.noted[key]}")
        elif key in table.refused and options.set(key):
            option.refuse(f"no {key}: {table.refused[key]}")
        elif key not in table.names and outside:
            passed.append(key)
        elif key not in table.names:
            near = difflib.get_close_matches(key, table.names, n=1)
            option.refuse(f"an option of fio, 3.33 or newer{f' (did you mean {near[0]}?)' if near else ''}")
        elif key in table.free:
            passed.append(key)
    if passed:
        options.note(f"options that change no request: {', '.join(sorted(passed))}")


def _engine(options: SectionOptions) -> str:
    option = options.given.get("ioengine")
    engine = option.value or "" if option else "psync"
    name = "external" if engine.startswith(("external:", "$")) else engine
    if option and name not in known().engines | known().idle:
        option.refuse(f"an ioengine of fio: {', '.join(sorted(known().engines))}")
    return name


def _mode(options: SectionOptions) -> tuple[str, int]:
    """rw, and the number behind its colon: bytes to skip after each request, or requests at one place; 0 for none."""
    option = options.given.get("rw")
    if option is None:
        return "read", 0
    mode, colon, number = (option.value or "").partition(":")
    if mode not in MODES:
        option.refuse(f"rw as one of {', '.join(MODES)}")
    if "trimwrite" in mode:
        options.note(f"rw={mode}: the trim before each write moves no data and is not counted")
    if not colon:
        return mode, 0
    digits = number.removeprefix("-")
    step = whole(option, digits, options.kb_base)
    if MODES[mode][0]:  # fio 3.33 reads no unit there
        step = int(digits.rstrip("kmgtpKMGTPiIbB"))
    return mode, step * (-1 if number.startswith("-") else 1)


def _reads(options: SectionOptions) -> int:
    """Per cent of reads in a mixed job; of rwmixread and rwmixwrite the one given last counts."""
    last = [key for key in options.given if key in ("rwmixread", "rwmixwrite")][-1:]
    if not last:
        return 50
    share = options.number(last[0], 50, 0, 100)
    return share if last[0] == "rwmixread" else 100 - share


def _files(options: SectionOptions) -> tuple[int, str]:
    """How many files the job has, and how they are called."""
    option = options.given.get("filename")
    if option is None or not option.value:
        return options.number("nrfiles", 1, 1, 1 << 20), options.section.name
    return len(re.split(r"(?<!\\):", option.value)), option.value


def _depth(options: SectionOptions, engine: str) -> int:
    depth = options.number("iodepth", 1, 1, 1 << 20)
    if depth > 1 and engine in known().synchronous:
        options.note(f"iodepth={depth} has no effect with ioengine={engine}: one request in flight")
        return 1
    return depth


def _align(options: SectionOptions, both: tuple[Sizes, Sizes]) -> list[int]:
    """What random places of reads and of writes are multiples of."""
    option = options.given.get("ba")
    given = (None, None) if option is None else by_direction(option)
    return [
        sizes.smallest if text is None or option is None else whole(option, text, options.kb_base, 1)
        for sizes, text in zip(both, given, strict=True)
    ]


def _random(options: SectionOptions) -> list[int]:
    """Per cent of the reads and of the writes that are not in order."""
    option = options.given.get("percentage_random")
    given = (None, None) if option is None else by_direction(option)
    return [100 if text is None or option is None else whole(option, text, high=100) for text in given]


def _mapped(options: SectionOptions, aligned: bool) -> bool:
    """Whether random offsets follow fio's map: which blocks were used (fio's manual, norandommap)."""
    if options.set("random_distribution"):
        options.note("random_distribution: requests are placed evenly")
        return False
    return aligned  # fio says so
