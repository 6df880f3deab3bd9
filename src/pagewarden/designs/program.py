"""A procedure as rows of integers, for the compiled engines. Row r belongs to the step that it was made from."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pagewarden.designs.steps import RESOURCES, Do, Each, Give, Line, Procedure, Say, Steps, Stop, Take


class RowKind(IntEnum):
    """What a row does; hops, syscalls, copies and remarks are only counted."""

    COUNT = 0
    DO = 1  # argument: the operation; target: where to go when refused, or -1
    JUMP = 2  # target
    TAKE = 3  # argument: the resource; target: where to go when there is not enough
    GIVE = 4
    EACH = 5  # target: one past the row that closes the loop
    NEXT = 6  # target: the row after EACH
    STOP = 7  # argument: 1 if the request counts as completed


@dataclass(frozen=True)
class FlatProcedure:
    """rows: int32[R, 4]: kind, argument, target, 1 if the operation is on the pool. steps[r]: the step of row r."""

    rows: NDArray[np.int32]
    steps: list[Line]


def assemble(steps: Steps) -> FlatProcedure:
    """Lay the steps out, with the branches of refusals behind the step that may be refused."""
    rows: list[list[int]] = []
    origin: list[Line] = []

    def row(step: Line, kind: RowKind, argument: int = 0, target: int = -1, pool: bool = False) -> int:
        rows.append([kind, argument, target, pool])
        origin.append(step)
        return len(rows) - 1

    def branch(step: Line, fork: int, then: Steps, otherwise: Steps) -> None:
        lay(then)
        over = row(step, RowKind.JUMP)
        rows[fork][2] = len(rows)
        lay(otherwise)
        rows[over][2] = len(rows)

    def lay(steps: Steps) -> None:
        for step in steps:
            match step:
                case Do(op, _, otherwise, pool):
                    fork = row(step, RowKind.DO, op, pool=pool)
                    if otherwise is not None:
                        branch(step, fork, (), otherwise)
                case Take(resource, then, otherwise):
                    branch(step, row(step, RowKind.TAKE, RESOURCES.index(resource)), then, otherwise)
                case Give(resource):
                    row(step, RowKind.GIVE, RESOURCES.index(resource))
                case Each(inside):
                    start = row(step, RowKind.EACH)
                    lay(inside)
                    rows[start][2] = row(step, RowKind.NEXT, target=start + 1) + 1
                case Stop(_, ok):
                    row(step, RowKind.STOP, int(ok))
                case _:
                    row(step, RowKind.COUNT)

    lay(steps)
    row(Say("done"), RowKind.STOP, 1)
    return FlatProcedure(np.array(rows, np.int32).reshape(-1, 4), origin)


def programs(procedures: list[Procedure]) -> tuple[NDArray[np.int32], NDArray[np.int64], list[Line]]:
    """Several procedures in one array: rows, the first row of each, the step of each row."""
    parts = [assemble(procedure.steps) for procedure in procedures]
    starts = np.cumsum([0] + [len(part.rows) for part in parts[:-1]])
    for part, start in zip(parts, starts, strict=True):
        part.rows[:, 2] += np.where(part.rows[:, 2] >= 0, np.int32(start), np.int32(0))
    return np.vstack([part.rows for part in parts]), starts.astype(np.int64), [s for part in parts for s in part.steps]
