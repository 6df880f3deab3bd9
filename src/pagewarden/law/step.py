"""What came of an operation."""

import errno
from enum import IntEnum
from typing import Any, NamedTuple

from pagewarden.law.page import Page
from pagewarden.vocab import Event


class Outcome(IntEnum):
    """Done; refused with an errno, the page as before; or a trap, the page as before."""

    DONE = 0
    EPERM = 1
    ENOENT = 2
    EAGAIN = 3
    EBUSY = 4
    EFAULT = 5  # of a system call, or a uaccess that ended in its fix-up
    EINVAL = 6
    ENODEV = 7
    EOPNOTSUPP = 8
    EBADMSG = 9
    EBADF = 16
    EEXIST = 17
    EHWPOISON = 18
    EINTR = 19
    ENOSYS = 20
    GUEST_FAULT = 10  # trap: the guest's stage-2 fault, for KVM to resolve
    GUEST_KILLED = 11  # trap: the guest touched poison
    HOST_RETRY = 12  # trap: the host's access waits (for the hypervisor, for a migration) and is tried again
    SIGSEGV = 13
    SIGBUS = 14
    PANIC = 15  # trap: the host kernel died

    @property
    def errno(self) -> int | None:
        """The errno of a refusal, None for DONE and for traps."""
        return getattr(errno, self.name, None)


class Step(NamedTuple):
    """The page afterwards, the outcome, what it cost, and whether the bytes of this very page were touched."""

    page: Page
    outcome: Outcome
    events: tuple[Event, ...] = ()
    reached: bool = False


def done(page: Page, *events: Event, reached: bool = False, **changes: Any) -> Step:
    """The page with these fields changed, and what that cost. (Page._replace takes twice the time; the law does this a
    million times for one table.)"""
    if changes:
        fields = list(page)
        for name, value in changes.items():
            fields[_PLACES[name]] = value
        page = tuple.__new__(Page, fields)
    return Step(page, Outcome.DONE, events, reached)


_PLACES = {name: place for place, name in enumerate(Page._fields)}


def refused(page: Page, outcome: Outcome, *events: Event) -> Step:
    """Also for traps: nothing changed, but the attempt may have cost something (a fault, an injection)."""
    return Step(page, outcome, events)
