"""What a section asks for: every option is used, noted, passed over or refused with its line. Checked with fio 3.33."""

import difflib
import re
from dataclasses import dataclass, replace

from pagewarden.workload.fio.extent import BY_REQUESTS, amount, loops_of, sequence, start
from pagewarden.workload.fio.given import SectionOptions
from pagewarden.workload.fio.holes import Holes
from pagewarden.workload.fio.options import known
from pagewarden.workload.fio.runs import Runs
from pagewarden.workload.fio.sections import Section
from pagewarden.workload.fio.sizes import Sizes, sizes_of
from pagewarden.workload.fio.units import MAX, switch, whole

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


@dataclass(frozen=True, slots=True)
class FioJob:
    """One section's requests, before they are drawn. Sizes are bytes."""

    name: str
    random: bool  # offsets are drawn; else they follow each other
    mapped: bool  # offsets are drawn so that no block comes again before all have come (fio's random map)
    trims: bool  # its writes are trims, which move no data
    reads: int  # per cent of the requests
    read_sizes: Sizes
    write_sizes: Sizes
    offset: int  # where the region starts
    step: int  # every further copy starts so much later (offset_increment)
    files: int  # the region and the limit are divided among so many
    region: int  # size, of all files together
    limit: int  # to move in one loop
    number: int | None  # requests at most in one loop (number_ios)
    holes: tuple[Holes, Holes] | None  # of its writes, of its reads; none where requests follow each other
    runs: Runs | None  # of its random requests, of which some follow others; none where each is placed by itself
    loops: int
    verified: bool  # what was written is read again at the end of a loop
    copies: int  # numjobs
    seed: int
    depth: int  # requests in flight for each copy
    wait: bool  # stonewall: starts when all jobs above are done
    after: str | None  # starts when the job of this name is done (wait_for)
    direct: bool  # no page cache (direct=1)
    place: str  # the file or device that it was given

    @property
    def smallest(self) -> int:
        """Bytes of its shortest request."""
        return min(self.read_sizes.smallest, self.write_sizes.smallest)

    @property
    def largest(self) -> int:
        """Bytes of its longest request."""
        return max(self.read_sizes.largest, self.write_sizes.largest)

    @property
    def expected(self) -> float:
        """Requests, roughly."""
        mean = _mean(self.reads, self.read_sizes, self.write_sizes)
        most = self.files * sum(each.most for each in self.holes) if self.holes else MAX
        return self.copies * self.loops * min(self.number or MAX, self.limit / mean, most)


def _mean(reads: int, read_sizes: Sizes, write_sizes: Sizes) -> float:
    """Bytes of a request, before a map cuts any."""
    return (reads * read_sizes.mean + (100 - reads) * write_sizes.mean) / 100


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
    random, share = MODES[mode]
    mixed, again = _reads(options), switch(section.options.get("norandommap"))
    reads = mixed if share is None else share
    read_sizes, write_sizes = sizes_of(options, reads, random)
    files, place = _files(options)
    offset = start(options)
    region, limit, number = amount(options, files, offset, max(read_sizes.largest, write_sizes.largest), nominal)
    mapped = random and not again and _mapped(options, read_sizes, write_sizes)
    mean = _mean(reads, read_sizes, write_sizes)
    if mapped and options.set("time_based") and limit >= region and mean < max(read_sizes.largest, write_sizes.largest):
        options.note(
            f"[{section.name}]: a whole pass of its random map is drawn, as fio draws pass after pass, and requests "
            "are cut where blocks are taken; a run that ends before has "
            f"longer ones, {mean / 1024:.3g} KiB (norandommap=1)"
        )
    holes, runs = sequence(options, random, step, (write_sizes, read_sizes), offset, region // files)
    limit, loops = loops_of(options, not random or (mapped and not runs), region, limit)
    if holes and any(each.most == MAX for each in holes):
        limit, loops = limit * loops, 1
    return FioJob(
        name=section.name,
        random=random,
        mapped=mapped,
        trims=mode in ("trim", "randtrim"),
        reads=reads,
        read_sizes=read_sizes,
        write_sizes=write_sizes,
        offset=offset,
        step=0 if options.of_device("offset_increment") else options.number("offset_increment", 0),
        files=files,
        region=region,
        limit=limit,
        number=number,
        holes=holes,
        runs=runs,
        loops=loops,
        verified=reads < 100 and options.set("verify") and options.number("do_verify", 1) == 1,
        copies=options.number("numjobs", 1, 1, MAX_COPIES),
        seed=options.number("randseed", 0),
        depth=_depth(options, engine),
        wait=switch(section.options.get("stonewall")),
        after=getattr(section.options.get("wait_for"), "value", None),
        direct=switch(section.options.get("direct")) or _unbuffered(section),
        place=place,
    )


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
        found[jobs.index(job)] = replace(job, number=nominal, loops=1, verified=False)
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
    return mode, whole(option, number.removeprefix("-"), options.kb_base) * (-1 if number.startswith("-") else 1)


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


def _mapped(options: SectionOptions, read: Sizes, write: Sizes) -> bool:
    """Whether random offsets follow fio's map: which blocks were used (fio's manual, norandommap)."""
    mixed = max(read.largest, write.largest) > min(read.smallest, write.smallest)
    if "ba" in options.given:  # fio says so
        return False
    if options.set("random_distribution"):
        options.note("random_distribution: requests are placed evenly")
        return False
    for key in ("percentage_random", "percentage_sequential"):
        if key in options.given:
            options.note(f"{key}: requests are placed as if all were random")
            return False
    if read.smallest != write.smallest:  # fio counts blocks in the one and its map in the other
        options.note("reads and writes of different smallest size: offsets drawn as with norandommap")
        return False
    return not mixed or getattr(options.given.get("random_generator"), "value", None) != "lfsr"  # it keeps no map
