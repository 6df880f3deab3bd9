"""The protocol of a page keeper, one page of it: a VMM, its keeper, the kernel's queue of events between them, a crash.

What is modelled is keep/pager.py and keep/keeper.py, and how keep/cloned_residence.py answers, step by step: a touch of
what is absent waits and is told by a message; a removal is told, waits until its message has been read, and then the
page is dropped; while one waits to be read, nothing is put in place (EAGAIN); a pager may die at any point, with what
it had read (Linux: fs/userfaultfd.c, userfaultfd_remove, userfaultfd_event_wait_completion, and mmap_changing in
mm/userfaultfd.c). Where the memory is a file, a page may be in it that the VM has no entry for, and that nobody has
filled, for a huge page was taken for its neighbour: its touch waits where minor faults are asked for, and
UFFDIO_CONTINUE answers (mm/shmem.c, shmem_get_folio_gfp; mm/userfaultfd.c, mfill_atomic_pte_continue). The states are
few, so that they are all there is to explore.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from pagewarden.check.protocol import KeptGuards, Protocol

GUARDS = {
    "userfaultfd-held": "another process holds the userfaultfd open, so that no guard goes with a pager",
    "removals-told": "the VMM's removals are asked for as events (UFFD_FEATURE_EVENT_REMOVE)",
    "eagain-retried": "a fault that got EAGAIN is answered when the events have been read",
    "ledger-outlives": "what was removed is written down where the next pager finds it",
    "reading-noted": "that a message was being read is written down, and a VM whose pager died there is ended",
    "page-continued": "the touch of a page that the memory's file has waits too, until it is right (UFFDIO_CONTINUE)",
    "successor-wakes": "a new pager wakes who waits, for their messages may have been read by the one before",
}
"""What each keeps from going wrong."""
KEEPER_PROPERTIES = {
    "no-false-zeroes": "the VM reads zeroes only of what it has removed",
    "no-old-bytes": "what the VM has removed, or written over, never comes back",
    "progress": "who waits for a page gets it, if whoever is alive goes on, or the VM is ended",
}
_CRASHES = 2

SeenBytes: TypeAlias = Literal["absent", "snapshot", "zeroes", "guest"]


class KeptPageState(NamedTuple):
    """One page and all who act on it."""

    page: SeenBytes = "absent"
    truth: SeenBytes = "snapshot"
    """What the VM must read."""
    unmapped: bool = False
    """The page is there, in the memory's file, and the VM has no entry for it."""
    vcpu: Literal["runs", "queued", "taken", "forgotten"] = "runs"
    """Where the message of its fault is."""
    removing: Literal["", "queued", "read"] = ""
    """Where the message of a removal is; the page is dropped once it has been read."""
    pager: Literal["idle", "reading", "serving", "dead"] = "idle"
    took_removal: bool = False
    """In hand, and not written down."""
    noted: Literal["saved", "there", "removed"] = "saved"
    lost: bool = False
    """The pager died while it read messages."""
    guarded: bool = True
    vm: bool = True
    crashes: int = 0


KeeperStep: TypeAlias = tuple[str, KeptPageState]


def after(s: KeptPageState, guards: KeptGuards) -> Iterator[tuple[str, str, KeptPageState]]:
    """What may happen next: who does it, what it is, and the state after it."""
    if not s.vm:
        return
    yield from (("VMM", *step) for step in _by_the_vmm(s, guards))
    if s.removing == "read" or (s.removing == "queued" and not s.guarded):
        yield "kernel", "drops the page", _dropped(s)._replace(removing="")
    if s.vcpu == "runs" and not s.removing:
        if s.page == "absent" and s.noted == "saved":
            yield (
                "kernel",
                "takes a huge page for a neighbour: the file has the page",
                s._replace(page="zeroes", unmapped=True),
            )
        elif s.page != "absent" and not s.unmapped:
            yield "kernel", "drops the entry of a page that stays in its file", s._replace(unmapped=True)
    if s.guarded:
        yield from (("pager", *step) for step in _by_the_pager(s, guards))
    if s.pager == "dead" and s.guarded:
        yield "keeper", *_taken_over(s, guards)
    if s.pager != "dead" and s.crashes < _CRASHES:
        yield "crash", "the pager dies", _crashed(s, guards)


def _dropped(s: KeptPageState) -> KeptPageState:
    return s._replace(page="absent", truth="zeroes", unmapped=False)


def _by_the_vmm(s: KeptPageState, guards: KeptGuards) -> Iterator[KeeperStep]:
    if s.vcpu == "runs":
        if s.page != "absent" and not s.unmapped:
            yield "a vCPU writes the page", s._replace(page="guest", truth="guest")
        elif s.guarded and (s.page == "absent" or "page-continued" in guards):
            yield "a vCPU touches the page, and waits", s._replace(vcpu="queued")
        elif s.unmapped:
            yield "a vCPU touches the page, and the kernel maps it", s._replace(unmapped=False)
        else:
            yield "a vCPU touches the page, and the kernel fills it", s._replace(page="zeroes")
    if not s.removing:
        if s.guarded and "removals-told" in guards:
            yield "the balloon removes the page: a message waits", s._replace(removing="queued")
        else:
            yield "the balloon removes the page", _dropped(s)


def _by_the_pager(s: KeptPageState, guards: KeptGuards) -> Iterator[KeeperStep]:
    if s.pager == "idle":
        if "queued" in (s.removing, s.vcpu):
            removal = s.removing == "queued"
            yield "reads the messages", s._replace(
                pager="reading", took_removal=removal, removing="read" if removal else s.removing,
                vcpu="taken" if s.vcpu == "queued" else s.vcpu,
            )  # fmt: skip
        if s.vcpu == "taken":
            yield "tries again", s._replace(pager="serving")
        if s.noted == "saved" and s.page == "absent" and s.removing != "queued":
            yield "brings the page ahead of use", s._replace(page="snapshot", noted="there")
    elif s.pager == "reading":
        noted = "removed" if s.took_removal else s.noted
        yield "writes down what was removed", s._replace(pager="serving", took_removal=False, noted=noted)
    elif s.pager == "serving":
        yield _answered(s._replace(pager="idle"), guards)


def _answered(s: KeptPageState, guards: KeptGuards) -> KeeperStep:
    if s.vcpu != "taken":
        return "has nothing to answer", s
    if s.removing == "queued":
        late = s if "eagain-retried" in guards else s._replace(vcpu="forgotten")
        return "gets EAGAIN: a removal waits to be read", late
    if s.unmapped and s.noted != "saved":
        return "maps the page that the file has", s._replace(unmapped=False, vcpu="runs")
    if s.page != "absent" and not s.unmapped:
        return "finds the page there, and wakes the vCPU", s._replace(vcpu="runs")
    if s.noted == "saved":
        return "puts the snapshot's page in place", s._replace(
            page="snapshot", noted="there", vcpu="runs", unmapped=False
        )
    return "puts zeroes in place", s._replace(page="zeroes", vcpu="runs")


def _crashed(s: KeptPageState, guards: KeptGuards) -> KeptPageState:
    """What it had in hand is gone. Without a holder its userfaultfd closes, and who waits goes on."""
    held = "userfaultfd-held" in guards
    vcpu = ("forgotten" if s.vcpu == "taken" else s.vcpu) if held else "runs"
    return s._replace(
        pager="dead", took_removal=False, lost=s.pager == "reading", guarded=held, vcpu=vcpu, crashes=s.crashes + 1
    )


def _taken_over(s: KeptPageState, guards: KeptGuards) -> KeeperStep:
    if s.lost and "reading-noted" in guards:
        return "ends the VM: a removal may be lost", s._replace(vm=False, vcpu="runs")
    noted = s.noted if "ledger-outlives" in guards else "saved"
    vcpu = "runs" if s.vcpu == "forgotten" and "successor-wakes" in guards else s.vcpu
    return "starts another pager", s._replace(pager="idle", lost=False, noted=noted, vcpu=vcpu)


def _broken(s: KeptPageState) -> str | None:
    """What a vCPU that reads the page would find wrong. While the page is being dropped, zeroes are right as well."""
    if (
        not s.vm
        or s.unmapped
        or s.vcpu != "runs"
        or s.page in ("absent", s.truth)
        or (s.page == "zeroes" and s.removing == "read")
    ):
        return None
    return "no-false-zeroes" if s.page == "zeroes" else "no-old-bytes"


def _waits(s: KeptPageState) -> bool:
    return s.vm and s.vcpu != "runs"


KEEPER = Protocol(
    "a page, its VMM, its keeper, the events between them, and two crashes", GUARDS, KEEPER_PROPERTIES, KeptPageState(),
    after, _broken, _waits, frozenset({"VMM", "crash"}),
)  # fmt: skip
