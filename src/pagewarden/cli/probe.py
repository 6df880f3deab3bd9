"""`pagewarden probe`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pagewarden.cli.given import Html, Json, Repeated, only

if TYPE_CHECKING:
    from pagewarden.report.documents.probe import Probed
    from pagewarden.studies.probe.said import SaidMatrix


def probe(
    context: typer.Context,
    backing: Annotated[
        Repeated,
        typer.Option(
            metavar="NAME",
            help="Only this of memfd, uffd-window, uffd-rwp, memfd-secret, guest-memfd; repeatable. Of a "
            "protected VM: anonymous, memfd.",
        ),
    ] = None,
    path: Annotated[
        Repeated, typer.Option(metavar="NAME", help="Only this path, or these ('io_uring-*'); repeatable.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=86400,
            metavar="SECONDS",
            help="For one trial, then it has no answer; none: 30, in QEMU 120, in pKVM 10.",
        ),
    ] = None,
    kernel: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Of another kernel, under QEMU: debian:6.12, or an image.")
    ] = None,
    modules: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where that image's modules lie, when they are not beside it.")
    ] = None,
    kernels: Annotated[bool, typer.Option("--kernels", help="Which kernels can be had, and which are there.")] = False,
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An earlier --json: say what changed; fails if it got worse.")
    ] = None,
    explain: Annotated[
        str | None, typer.Option(metavar="PATH", help="The system calls of a path, as the kernel sees them here.")
    ] = None,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="What keeps an untrusted host side apart here, and what it may call.")
    ] = False,
    tap: Annotated[bool, typer.Option("--tap", help="The results as KTAP, for whoever runs kernel tests.")] = False,
    html: Html = None,
    json: Json = False,
) -> None:
    """What this kernel offers, and whether anything leaks: every way the host could touch a page, tried for real.

    Each trial puts a canary on a page and runs in a process of its own. The status is 1 when a result is not what the
    law of that backing says, or none came in time; known weaknesses (memfd, a host in the warden's own process) are
    part of the law. With --baseline it is 1 when something got worse.

    \b
    pagewarden probe
    pagewarden probe --backing uffd-window --path 'mremap*'
    pagewarden probe --kernel debian:7.3
    pagewarden probe --kernel debian:7.3/arm64
    pagewarden probe --baseline before.json
    pagewarden probe --explain vmsplice-before
    """
    from pagewarden.report.pages import save_page
    from pagewarden.vocab import UserMistake

    mode = "isolated" if isolated else "kernels" if kernels else "explain" if explain is not None else "here"
    only(context, *_EFFECTIVE[mode])
    if json and tap:
        raise UserMistake("--json and --tap are forms of one answer: give one of them")
    if modules is not None and kernel is None:
        raise UserMistake("--modules is about --kernel FILE; leave it out")
    if isolated:
        return _isolated(json)
    if kernels:
        return _kernels(json)
    if explain is not None:
        return _explain(explain)
    before = _read(baseline) if baseline is not None else None
    found, is_vm = _found(kernel, modules, backing, path, timeout)
    if before is not None:
        found = _beside(found, before)
    save_page(html, lambda: found)
    _print(found, is_vm, json, tap, features=not (backing or path))
    good = found.baseline.good if found.baseline else not (found.disagreements or found.timeouts)
    if not good:
        raise typer.Exit(1)


_EFFECTIVE = {
    "isolated": ("with --isolated", ("isolated", "json")),
    "kernels": ("with --kernels", ("kernels", "json")),
    "explain": ("with --explain", ("explain",)),
    "here": ("here", ("backing", "path", "timeout", "kernel", "modules", "baseline", "tap", "json", "html")),
}
"""What is asked for, in words, and the parameters that matter there."""


def _found(
    kernel: str | None, modules: Path | None, backings: Repeated, paths: Repeated, seconds: float | None
) -> "tuple[Probed, bool]":
    """The document, and whether it is of a protected VM."""
    from pagewarden.cli.progress import ProgressBars
    from pagewarden.report.probe import probed

    with ProgressBars() as progress:
        if kernel is None:
            from pagewarden.probe.capabilities import capabilities
            from pagewarden.probe.runner import SECONDS
            from pagewarden.studies.probe.isolation import isolation

            here = isolation(backings or (), paths or (), progress, seconds or SECONDS)
            return probed(here, capabilities()), False
        from pagewarden.lab import fetch
        from pagewarden.studies.probe import elsewhere, pkvm

        asked = fetch.kernel(kernel, _say, modules)
        if asked.architecture == "arm64":
            from pagewarden.probe.pkvm import asker
            from pagewarden.report import pkvm as pages

            bar, each = progress.of("cells"), seconds or asker.SECONDS
            cells = pkvm.ask(asked, backings or (), paths or (), say=_say, progress=bar, each=each)
            return pages.probed(cells), True
        limit = seconds or elsewhere.SECONDS
        there = elsewhere.isolation_in(asked, backings or (), paths or (), limit, _say, progress.of("trials"))
        return probed(*there), False


def _beside(found: "Probed", before: "SaidMatrix") -> "Probed":
    """The document, with what changed since the earlier one."""
    from msgspec.json import encode
    from msgspec.structs import replace

    from pagewarden.report.probe import baseline
    from pagewarden.studies.probe.said import read
    from pagewarden.vocab import UserMistake

    now = read(encode(found)).endings
    if not now.keys() & before.endings.keys():
        raise UserMistake(f"the baseline, of Linux {before.kernel}, has none of these trials: was it asked the same?")
    return replace(found, baseline=baseline(before, now))


def _read(file: Path) -> "SaidMatrix":
    from msgspec import MsgspecError

    from pagewarden.studies.probe.said import read
    from pagewarden.vocab import UserMistake
    from pagewarden.vocab.host import naming

    try:
        with naming(str(file)):
            return read(file.read_bytes())
    except MsgspecError as wrong:
        raise UserMistake(f"{file} is no document of `probe --json`: {wrong}; give one that it printed") from wrong


def _print(found: "Probed", is_vm: bool, json: bool, tap: bool, features: bool) -> None:
    """features: also what the kernel offers."""
    from pagewarden.report.console import console, print_document

    if tap:
        from pagewarden.report.tap import lines

        for line in lines(found):
            console().print(line, soft_wrap=True)
    elif json:
        print_document(found)
    elif found.baseline is not None:
        from pagewarden.report.probe import print_baseline

        print_baseline(found, found.baseline, console())
    elif is_vm:
        from pagewarden.report.pkvm import print_pkvm

        print_pkvm(found, console())
    else:
        from pagewarden.report.probe import print_probe

        print_probe(found, console(), features)


def _isolated(json: bool) -> None:
    from pagewarden.report.console import console, print_document
    from pagewarden.report.room import print_room, room_found
    from pagewarden.studies.probe.room import room

    walls = room_found(room())
    print_document(walls) if json else print_room(walls, console())
    if walls.broken:
        raise typer.Exit(1)


def _kernels(json: bool) -> None:
    from pagewarden.lab import fetch, qemu
    from pagewarden.report.console import console, print_document
    from pagewarden.report.probe import kernels_document, print_offers

    offers, lack = fetch.offers(_say), qemu.lack()
    print_document(kernels_document(offers, lack)) if json else print_offers(offers, lack, console())


def _explain(name: str) -> None:
    from pagewarden.probe.explain import calls_of
    from pagewarden.report.console import console
    from pagewarden.report.path import print_calls
    from pagewarden.studies.probe.isolation import chosen_paths

    for path in chosen_paths([name]):
        print_calls(path, calls_of(path), console())


def _say(what: str) -> None:
    """A step that takes its time, for whoever watches."""
    if sys.stderr.isatty():
        print(f"pagewarden: {what}", file=sys.stderr)
