"""How a guest speaks to the world outside: two ports, a table of hypercalls, and the check of what arrives.

A guest writes a hypercall's number to HYPERCALL with `out dx, eax`, arguments in rdi, rsi, r10; the answer comes back
in rax, 0 or a negative errno. A doorbell is the number of a queue written to DOORBELL. OUT works at CPL 3 on every CPU
(VMCALL does not: software KVM backends refuse it there).
"""

import errno
from dataclasses import dataclass
from enum import IntEnum

from pagewarden.vocab import PageRange, Refused

HYPERCALL = 0x500
DOORBELL = 0x510


class Number(IntEnum):
    """Hypercalls, and what their arguments mean."""

    SHARE = 1  # gfn, pages: the host may touch them from now on
    UNSHARE = 2  # gfn, pages: the host may not; contents stay
    LOG = 3  # a number for the record, two values
    ABORT = 4  # the guest gives up: number of the hypercall that failed, its answer, gfn
    DONE = 5  # the guest has finished: requests, how many of them failed its check, index of the first that did


@dataclass(frozen=True, slots=True)
class Call:
    """A hypercall that was checked. pages only for SHARE and UNSHARE, else values as they came."""

    number: Number
    pages: PageRange
    values: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class GuestReport:
    """What the guest says at its end: how many requests it made, how many failed its own check, the first of them."""

    requests: int
    failures: int
    first_failure: int


def decode(number: int, arguments: tuple[int, int, int], pages: int) -> Call:
    """Check a hypercall of a guest with so many pages of memory; every value is hostile.

    Raises Refused: ENOSYS for a number that is none, EINVAL for an empty range, ERANGE for one outside the memory.
    """
    try:
        known = Number(number)
    except ValueError:
        raise Refused(errno.ENOSYS, f"hypercall {number:#x} does not exist") from None
    if known not in (Number.SHARE, Number.UNSHARE):
        return Call(known, PageRange(0, 0), arguments)
    gfn, count, _ = arguments
    if count == 0:
        raise Refused(errno.EINVAL, f"{known.name.lower()} of no pages")
    if not 0 <= gfn < pages or not 0 < count <= pages - gfn:
        raise Refused(errno.ERANGE, f"{known.name.lower()} of {count} pages from gfn {gfn:#x} in a memory of {pages}")
    return Call(known, PageRange(gfn, gfn + count), arguments)
