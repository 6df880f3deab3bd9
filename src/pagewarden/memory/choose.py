"""Which backing a memory gets, and why."""

from typing import Literal, TypeAlias

from pagewarden.memory.backing import Backing, Memfd, MemfdSecret
from pagewarden.memory.guest_memfd import GuestMemfd
from pagewarden.memory.isolated.window import IsolatedWindow
from pagewarden.memory.uffd_window import UffdWindow
from pagewarden.vocab import Unavailable, UserMistake, one_of

Use: TypeAlias = Literal["any", "kvm", "emulated"]
"""Who runs the guest: KVM, an emulated CPU in this process, or either."""

BACKINGS = ("uffd-window", "memfd-secret", "guest-memfd", "memfd")

STRONGEST: dict[str, tuple[tuple[str, str], ...]] = {
    "emulated": (
        ("memfd-secret", "none of its pages is ever pinned or in the kernel's direct map; an emulated CPU can use it"),
        ("uffd-window", "memfd_secret is missing here; every page has its own guard"),
    ),
    "kvm": (
        (
            "uffd-window",
            "every page has its own guard and KVM can map it; memfd_secret refuses KVM's pins, and "
            "guest_memfd converts no single page",
        ),
    ),
    "any": (("uffd-window", "every page has its own guard, for KVM and emulated CPUs alike"),),
}
"""Backing and reason, strongest first. `memfd` is never chosen: it protects nothing."""


def choose(size: int, name: str, isolated: bool, use: Use, shared: bool, vm: int | None) -> tuple[Backing, str]:
    """The backing and why it was taken; Unavailable, UserMistake."""
    name = one_of("backing", name, (*BACKINGS, "auto"))
    if isolated:
        if name not in ("auto", "uffd-window"):
            raise UserMistake(f"{name} cannot be isolated: only a uffd-window is opened and shut from another process")
        return IsolatedWindow(size), "the only one that an untrusted host can be given"
    if name == "auto":
        return strongest(size, use)
    return build(name, size, shared, vm), "asked for"


def strongest(size: int, use: Use) -> tuple[Backing, str]:
    """The first of STRONGEST[use] that this host has, and why it was taken; Unavailable names every reason."""
    reasons = []
    for name, why in STRONGEST[use]:
        try:
            return build(name, size), why
        except Unavailable as lacking:
            reasons.append(f"{name}: {lacking}")
    raise Unavailable(
        f"no backing protects memory here ({'; '.join(reasons)})",
        "backing='memfd' runs anywhere, without any protection",
    )


def build(name: str, size: int, shared: bool = False, vm: int | None = None) -> Backing:
    """The named backing for a cooperating host; Unavailable, UserMistake."""
    name = one_of("backing", name, BACKINGS)
    if name == "uffd-window":
        return UffdWindow(size)
    if name == "memfd-secret":
        return MemfdSecret(size)
    if name == "guest-memfd":
        return GuestMemfd(size, shared, vm)
    return Memfd(size)
