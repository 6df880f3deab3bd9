"""`pagewarden keep`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pagewarden.cli.given import Html, Json
from pagewarden.cli.status import with_status

keep = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)


@keep.callback(invoke_without_command=True)
def _keep(
    context: typer.Context,
    socket: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where the VMM connects to: made anew. Needed.")
    ] = None,
    snapshot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The memory as the VMM wrote it, or sealed. Needed.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="32 bytes: the snapshot is sealed.")] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="SET", help="Write which pages the first VM asked for, at its end.")
    ] = None,
    replay: Annotated[Path | None, typer.Option(metavar="SET", help="Bring these ahead of use, in each VM.")] = None,
    limit: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Of a VM: with so much there, only pages that are asked for come."),
    ] = None,
    json_events: Annotated[Path | None, typer.Option(metavar="FILE", help="Append what happens, as JSON.")] = None,
    metrics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Counts in Prometheus's text format, renewed each second.")
    ] = None,
    html: Html = None,
    json: Json = False,
) -> None:
    """Owns the memory of restored VMs: Firecracker's page-fault handler (mem_backend Uffd), a pager for each VM.

    It serves until Ctrl-C or SIGTERM; a terminal shows what is there and how fast it comes. A pager that dies is
    replaced, and its VM waits meanwhile; a VM that nobody can answer rightly is ended. No page that the snapshot has is
    ever read as zeroes, unless the VM removed it (a balloon).

    \b
    pagewarden keep --socket /run/vm/uffd.sock --snapshot vm.mem --record vm.set
    pagewarden keep --socket /run/vm/uffd.sock --snapshot vm.mem --replay vm.set --json-events keep.log
    pagewarden keep --socket /run/vm/uffd.sock --snapshot vm.sealed --key vm.key --limit 512m
    """
    if context.invoked_subcommand is not None:
        return
    from pagewarden.vocab import UserMistake

    def serve() -> None:
        if socket is None or snapshot is None:
            raise UserMistake(
                "who comes, and for what? give --socket PATH and --snapshot FILE; see pagewarden keep --help"
            )
        from pagewarden.cli.sizes import size
        from pagewarden.keep.keeper import PageKeeper, until_stopped
        from pagewarden.keep.snapshot import read_key
        from pagewarden.keep.source import PageSource, PlainFile, SealedFile
        from pagewarden.kernel.files import event_lines
        from pagewarden.kernel.listening import listening
        from pagewarden.report.keep import KeptLine, kept_document, print_kept
        from pagewarden.report.live import Course
        from pagewarden.report.pages import answer

        most = None if limit is None else size(limit) // 4096
        source: PageSource = PlainFile(snapshot) if key is None else SealedFile(snapshot, read_key(key))
        line, course = KeptLine(sys.stderr) if sys.stderr.isatty() else None, Course()

        def live(sums: Mapping[str, int]) -> None:
            course.add(sums["resident"], sums["faults"])
            if line is not None:
                line(sums)

        with listening(socket, None) as listener, until_stopped() as stop, event_lines(json_events) as tell:
            keeper = PageKeeper(
                listener, source, record=record, replay=replay, tell=tell, metrics=metrics, limit=most, live=live
            )
            said = f"pagewarden: keeping {snapshot} for who comes to {socket}"
            if line is not None:
                line.say(said)
            else:
                print(said, file=sys.stderr, flush=True)
            keeper.run(stop)
        if line is not None:
            line.show("")
        source.close()
        answer(
            lambda: kept_document(keeper.report, course.points), lambda out: print_kept(keeper.report, out), json, html
        )

    with_status(serve)()


@keep.command()
@with_status
def seal(
    plain: Annotated[Path, typer.Argument(help="The memory as the VMM wrote it.")],
    sealed: Annotated[Path, typer.Argument(help="The file to write: whole, or not at all.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="32 bytes; made where none are.")],
    json: Json = False,
) -> None:
    """Seal a VMM's plain snapshot, so that the host that keeps it can neither read it nor change it unseen.

    The plain file stays: remove it, where its disk should not have it.

    \b
    pagewarden keep seal vm.mem vm.sealed --key vm.key
    pagewarden keep seal vm.mem vm.mem --key vm.key
    """
    import time

    from pagewarden.cli.progress import ProgressBars
    from pagewarden.keep.plain import seal_plain
    from pagewarden.keep.snapshot import read_key
    from pagewarden.report.keep import print_sealed, sealed_document
    from pagewarden.report.pages import answer

    secret, start = read_key(key, make=True), time.perf_counter()
    with ProgressBars() as progress:
        found = seal_plain(plain, sealed, secret, progress.of("pages"))
    made = sealed_document(str(plain), str(sealed), found, time.perf_counter() - start)
    answer(lambda: made, lambda out: print_sealed(made, out), json)
