"""`pagewarden probe`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pagewarden.cli.given import Json, Repeated

if TYPE_CHECKING:
    from pagewarden.probe.capabilities import Capability
    from pagewarden.studies.probe.isolation import Isolation


def probe(
    backing: Annotated[
        Repeated,
        typer.Option(metavar="NAME", help="Only this of memfd, uffd-window, memfd-secret, guest-memfd; repeatable."),
    ] = None,
    path: Annotated[
        Repeated, typer.Option(metavar="NAME", help="Only this path, or these ('io_uring-*'); repeatable.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="For one trial, then it has no answer; none: 30, in QEMU 120."),
    ] = None,
    kernel: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Of another kernel, under QEMU: debian:6.12, or an image.")
    ] = None,
    kernels: Annotated[bool, typer.Option("--kernels", help="Which kernels can be had, and which are there.")] = False,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="What keeps an untrusted host side apart here, and what it may call.")
    ] = False,
    json: Json = False,
) -> None:
    """What this kernel offers, and whether anything leaks: every way the host could touch a page, tried for real.

    Each trial puts a canary on a page and runs in a process of its own. The status is 1 when a result is not what the
    law of that backing says, or none came in time; known weaknesses (memfd, a host in the warden's own process) are
    part of the law.

    \b
    pagewarden probe
    pagewarden probe --backing uffd-window --path 'mremap*'
    pagewarden probe --kernel debian:7.3
    pagewarden probe --json | jq '.matrix[] | select(.result == "LEAK")'
    """
    from pagewarden.probe.trial import TrialResult
    from pagewarden.report.console import console, print_document

    if isolated:
        from pagewarden.report.room import print_room, room_found
        from pagewarden.studies.probe.room import room

        walls = room_found(room())
        print_document(walls) if json else print_room(walls, console())
        if walls.broken:
            raise typer.Exit(1)
        return
    from pagewarden.report.probe import kernels_document, print_offers, print_probe, probed

    if kernels:
        from pagewarden.lab import fetch, qemu

        offers, lack = fetch.offers(_say), qemu.lack()
        print_document(kernels_document(offers, lack)) if json else print_offers(offers, lack, console())
        return
    found, offered = _here(backing, path, timeout) if kernel is None else _there(kernel, backing, path, timeout)
    if json:
        print_document(probed(found, offered))
    else:
        print_probe(found, offered, console())
    if found.disagreements or found.ended(TrialResult.TIMEOUT):
        raise typer.Exit(1)


def _here(backings: Repeated, paths: Repeated, seconds: float | None) -> "tuple[Isolation, list[Capability]]":
    from pagewarden.cli.progress import ProgressBars
    from pagewarden.probe.capabilities import capabilities
    from pagewarden.probe.runner import SECONDS
    from pagewarden.studies.probe.isolation import isolation

    with ProgressBars() as progress:
        found = isolation(backings or (), paths or (), progress, seconds or SECONDS)
    return found, capabilities()


def _there(
    kernel: str, backings: Repeated, paths: Repeated, seconds: float | None
) -> "tuple[Isolation, list[Capability]]":
    from pagewarden.lab import fetch
    from pagewarden.studies.probe.elsewhere import SECONDS, isolation_in

    return isolation_in(fetch.kernel(kernel, _say), backings or (), paths or (), seconds or SECONDS, _say)


def _say(what: str) -> None:
    """A step that takes its time, for whoever watches."""
    if sys.stderr.isatty():
        print(f"pagewarden: {what}", file=sys.stderr)
