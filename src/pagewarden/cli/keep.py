"""`pagewarden keep`."""

from pathlib import Path
from typing import Annotated

import typer

from pagewarden.cli.given import Html, Json


def keep(
    socket: Annotated[Path, typer.Option(metavar="PATH", help="Where the VMM connects to: made anew.")],
    snapshot: Annotated[Path, typer.Option(metavar="FILE", help="The memory as the VMM wrote it, or sealed.")],
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="32 bytes: the snapshot is sealed.")] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="SET", help="Write which pages the first VM asked for, at its end.")
    ] = None,
    replay: Annotated[Path | None, typer.Option(metavar="SET", help="Bring these ahead of use, in each VM.")] = None,
    json_events: Annotated[Path | None, typer.Option(metavar="FILE", help="Append what happens, as JSON.")] = None,
    metrics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Counts in Prometheus's text format, renewed each second.")
    ] = None,
    html: Html = None,
    json: Json = False,
) -> None:
    """Owns the memory of restored VMs: Firecracker's page-fault handler (mem_backend Uffd), a pager for each VM.

    It serves until Ctrl-C or SIGTERM. A pager that dies is replaced, and its VM waits meanwhile; a VM that nobody can
    answer rightly is ended. No page that the snapshot has is ever read as zeroes, unless the VM removed it (a balloon).

    \b
    pagewarden keep --socket /run/vm/uffd.sock --snapshot vm.mem --record vm.set
    pagewarden keep --socket /run/vm/uffd.sock --snapshot vm.mem --replay vm.set --json-events keep.log
    """
    import sys

    from pagewarden.keep.keeper import PageKeeper, until_stopped
    from pagewarden.keep.source import PageSource, PlainFile, SealedFile
    from pagewarden.kernel.files import event_lines
    from pagewarden.kernel.listening import listening
    from pagewarden.report.keep import kept_document, print_kept
    from pagewarden.report.pages import answer

    source: PageSource = PlainFile(snapshot) if key is None else SealedFile(snapshot, key.read_bytes())
    with listening(socket, None) as listener, until_stopped() as stop, event_lines(json_events) as tell:
        keeper = PageKeeper(listener, source, record=record, replay=replay, tell=tell, metrics=metrics)
        print(f"pagewarden: keeping {snapshot} for who comes to {socket}", file=sys.stderr, flush=True)
        keeper.run(stop)
    source.close()
    answer(lambda: kept_document(keeper.report), lambda out: print_kept(keeper.report, out), json, html)
