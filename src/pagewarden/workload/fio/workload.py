"""The requests of all jobs of a file: who runs beside whom, who waits, and which request is whose."""

from collections.abc import Sequence

import numpy as np

from pagewarden.vocab import UserMistake
from pagewarden.workload.fio.draw import Columns, draw, turns
from pagewarden.workload.fio.extent import BY_REQUESTS
from pagewarden.workload.fio.job import NOMINAL, FioJob, read_job, sampled
from pagewarden.workload.fio.sections import Section
from pagewarden.workload.model import MAX_END, Workload


def jobs_workload(
    name: str, format: str, sections: Sequence[Section], nominal: int | None = None, only: Sequence[str] = ()
) -> Workload:
    """Draw the requests of the sections, those that run side by side taking turns; UserMistake.

    nominal: requests of a job whose size only its device would tell (10,000). only: names of the sections to take.
    """
    notes: dict[str, None] = {}
    taken = _chosen(sections, only)
    jobs = [job for section in taken if (job := read_job(section, notes, nominal or NOMINAL)) is not None]
    if not jobs:
        raise UserMistake(f"{name}: no job in it moves data of a file or device")
    jobs = sampled(jobs, notes, nominal or NOMINAL)
    if nominal and not any(note.endswith(BY_REQUESTS) for note in notes):
        raise UserMistake(f"{name}: every job says how much it does: --requests has no effect; leave it out")
    for job in jobs:
        if job.end > MAX_END:
            raise UserMistake(f"{name}: job [{job.name}] reaches beyond byte {MAX_END}; make offset or size smaller")
    levels, numbers = _levels(jobs), np.cumsum([1, *(job.copies for job in jobs)]).tolist()
    parts, depths, first = [], [], 0
    for level in sorted(set(levels)):
        group = [i for i, at in enumerate(levels) if at == level]
        depths.append(sum(jobs[i].copies * jobs[i].depth for i in group))
        drawn = [(i, draw(jobs[i], copy, numbers[i] + copy)) for i in group for copy in range(jobs[i].copies)]
        *columns, until = _together(drawn, [jobs[i].depth for i, _ in drawn])
        parts.append((*columns, until + first))
        first += len(until)
    owner, write, offset, length, until = (np.concatenate(column) for column in zip(*parts, strict=True))
    trims = np.array([job.trims for job in jobs])[owner]
    if trims.all():
        raise UserMistake(f"{name}: its jobs only trim, which moves no data")
    notes["requests are those of fio 3.33; another version may draw others of the same sizes, mix and limits"] = None
    return Workload(
        name=name,
        format=format,
        write=write[~trims],
        offset=offset[~trims].astype(np.uint64),
        length=length[~trims].astype(np.uint32),
        depth=max(depths),
        skipped={"trim": int(trims.sum())} if trims.any() else {},
        notes=tuple(notes),
        owner=owner[~trims].astype(np.int32),
        jobs=tuple((job.name, job.copies * job.depth) for job in jobs),
        until=np.cumsum(np.append(False, ~trims), dtype=np.int32)[until][~trims] if trims.any() else until,
        direct=all(job.direct for job in jobs),
        independent=len(jobs) > 1 and (len(set(levels)) > 1 or len({job.place for job in jobs}) == len(jobs)),
    )


def _chosen(sections: Sequence[Section], only: Sequence[str]) -> Sequence[Section]:
    names = [section.name for section in sections]
    for name in only:
        if name not in names:
            raise UserMistake(f"no section is called {name!r}; there are {', '.join(dict.fromkeys(names))}")
    return [section for section in sections if not only or section.name in only]


def _levels(jobs: Sequence[FioJob]) -> list[int]:
    """When each job starts: those of one level run side by side, after all of the levels before."""
    levels: list[int] = []
    base = 0
    for job in jobs:
        if job.wait and levels:
            base = max(levels) + 1
        waited = [level + 1 for level, other in zip(levels, jobs, strict=False) if other.name == job.after]
        levels.append(max([base, *waited]))
    return levels


def _together(drawn: Sequence[tuple[int, Columns]], depths: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Requests of jobs that run side by side, by turns: whose each is, direction, offset, length, and before which one
    it ends: each job has as many in flight as its depth says."""
    counts = [len(length) for _, (_, _, length) in drawn]
    if len(drawn) == 1:
        (job, columns), n = drawn[0], counts[0]
        return np.full(n, job), *columns, np.minimum(np.arange(depths[0], depths[0] + n, dtype=np.int32), n)
    turn, order = turns(counts)
    owner = np.repeat([i for i, _ in drawn], counts)
    write, offset, length = (np.concatenate(column)[order] for column in zip(*(own for _, own in drawn), strict=True))
    depth = np.repeat(np.array(depths, np.int32), counts)
    before = np.cumsum(np.append(0, np.bincount(turn)), dtype=np.int32)
    until = before[np.minimum(turn + depth, len(before) - 1)]  # when others have had that turn, if it is over itself
    own = np.flatnonzero(turn + depth < np.repeat(counts, counts))
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    until[own] = place[own + depth[own]]
    return owner[order], write, offset, length, until[order]
