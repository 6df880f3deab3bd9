"""The requests of all jobs of a file: who runs beside whom, who waits, and which request is whose."""

from collections.abc import Sequence

import numpy as np

from pagewarden.vocab import UserMistake
from pagewarden.workload.fio.draw import Columns, draw, turns
from pagewarden.workload.fio.job import BY_REQUESTS, NOMINAL, FioJob, read_job, sampled
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
        if job.offset + job.step * job.copies + job.region > MAX_END:
            raise UserMistake(f"{name}: job [{job.name}] reaches beyond byte {MAX_END}; make offset or size smaller")
    levels = _levels(jobs)
    parts, depths = [], []
    for level in sorted(set(levels)):
        group = [i for i, at in enumerate(levels) if at == level]
        depths.append(sum(jobs[i].copies * jobs[i].depth for i in group))
        parts.append(_together([(i, draw(jobs[i], copy, i)) for i in group for copy in range(jobs[i].copies)]))
    owner, write, offset, length = (np.concatenate(column) for column in zip(*parts, strict=True))
    trims = np.array([job.trims for job in jobs])[owner]
    ends = np.cumsum(~trims)[np.cumsum([len(part[0]) for part in parts]) - 1]
    if trims.all():
        raise UserMistake(f"{name}: its jobs only trim, which moves no data")
    notes["fio's sizes, mix and limits, but not its own random sequence"] = None
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
        phases=tuple(zip(ends.tolist(), depths, strict=True)),
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


def _together(drawn: Sequence[tuple[int, Columns]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Requests of jobs that run side by side, by turns: whose each is, direction, offset, length."""
    order = turns(len(length) for _, (_, _, length) in drawn)
    owner = np.repeat([i for i, _ in drawn], [len(length) for _, (_, _, length) in drawn])
    write, offset, length = (np.concatenate(column) for column in zip(*(columns for _, columns in drawn), strict=True))
    return owner[order], write[order], offset[order], length[order]
