"""`pagewarden probe`."""

from typing import Annotated

import typer


def probe(
    backing: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this of memfd, uffd-window, memfd-secret, guest-memfd; repeatable."),
    ] = None,
    path: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this path, or these ('io_uring-*'); repeatable.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="For one trial; then it has no answer.")
    ] = 30,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """What this kernel offers, and whether anything leaks: every way the host could touch a page, tried for real.

    Each trial puts a canary on a page and runs in a process of its own. The status is 1 when a result is not what the
    law of that backing says, or none came in time; known weaknesses (memfd, a host in the warden's own process) are
    part of the law.

    \b
    pagewarden probe
    pagewarden probe --backing uffd-window --path 'mremap*'
    pagewarden probe --json | jq '.matrix[] | select(.result == "LEAK")'
    """
    from pagewarden.cli.progress import Progress
    from pagewarden.probe.capabilities import capabilities
    from pagewarden.probe.trial import Result
    from pagewarden.report.console import console, print_json
    from pagewarden.report.probe import print_probe, probe_json
    from pagewarden.studies.probe.isolation import isolation

    with Progress() as progress:
        found = isolation(backing or (), path or (), progress, timeout)
    offered = capabilities()
    if json:
        print_json(probe_json(found, offered))
    else:
        print_probe(found, offered, console())
    if found.disagreements or found.ended(Result.TIMEOUT):
        raise typer.Exit(1)
