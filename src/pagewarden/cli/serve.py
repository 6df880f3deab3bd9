"""`pagewarden serve`."""

from pathlib import Path
from typing import Annotated

import typer

from pagewarden.cli.given import Html, Json
from pagewarden.cli.status import with_status

serve = typer.Typer(
    help="A device for QEMU, over vhost-user.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@serve.command()
@with_status
def blk(
    disk: Annotated[Path, typer.Option(metavar="FILE", help="A raw file, or a block device.")],
    socket: Annotated[Path | None, typer.Option(metavar="PATH", help="Where QEMU connects to: made anew.")] = None,
    fd: Annotated[int | None, typer.Option(min=0, help="Or a socket that listens, inherited by this number.")] = None,
    mode: Annotated[
        str, typer.Option(help="iommu: what the guest maps for DMA, while it does; pool: its bounce pool; open: all.")
    ] = "iommu",
    queues: Annotated[int, typer.Option(min=1, help="Queues, as in num-queues= of QEMU.")] = 1,
    readonly: Annotated[bool, typer.Option("--readonly", help="The guest cannot write.")] = False,
    allow_lazy: Annotated[
        bool, typer.Option("--allow-lazy", help="Serve a guest that unmaps late, all at once.")
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="The device's process tries closed pages at random, all the while.")
    ] = False,
    pool: Annotated[
        str | None,
        typer.Option(
            metavar="ADDR-ADDR", help="The pool, as the guest's kernel says it (software IO TLB); learned else."
        ),
    ] = None,
    stay: Annotated[bool, typer.Option("--stay", help="Go on when QEMU has ended, for the next.")] = False,
    json_events: Annotated[Path | None, typer.Option(metavar="FILE", help="Append what happens, as JSON.")] = None,
    html: Html = None,
    json: Json = False,
) -> None:
    """A block device for QEMU, in a process that sees only what the guest maps for DMA; a summary at the end.

    It ends with QEMU, and by Ctrl-C or SIGTERM. What QEMU and the guest must be told: docs/serve.md.

    \b
    pagewarden serve blk --socket /tmp/disk.sock --disk disk.img
    pagewarden serve blk --socket /tmp/disk.sock --disk disk.img --queues 4 --readonly --json
    pagewarden serve blk --socket /tmp/disk.sock --disk disk.img --mode pool --pool 0x7bff7000-0x7fff7000
    pagewarden serve blk --socket /tmp/disk.sock --disk disk.img --mode open
    qemu-system-x86_64 ... -object memory-backend-memfd,id=m,size=1G,share=on -machine q35,memory-backend=m \\
        -chardev socket,id=c,path=/tmp/disk.sock -device vhost-user-blk-pci,chardev=c
    """
    import sys

    from pagewarden.kernel.files import event_lines
    from pagewarden.report.live import Course
    from pagewarden.report.pages import answer
    from pagewarden.report.serve import ServedLine, print_served, served_document
    from pagewarden.vhost.blk import serve_block
    from pagewarden.vhost.hosts import ServeCounts
    from pagewarden.vhost.serve import MODES, pages_between
    from pagewarden.vocab import UserMistake

    if mode not in MODES:
        raise UserMistake(f"--mode {mode}: expected {' or '.join(MODES)}")
    if pool is not None and mode != "pool":
        raise UserMistake(f"--pool is for --mode pool, not --mode {mode}; leave one out")
    line, course = ServedLine(sys.stderr) if sys.stderr.isatty() else None, Course()
    say = line.say if line is not None else lambda what: print(what, file=sys.stderr, flush=True)

    def live(counts: ServeCounts) -> None:
        course.add(counts.requests, counts.open_now)
        if line is not None:
            line(counts)

    with event_lines(json_events) as tell:
        counts = serve_block(
            socket, fd, disk, mode=mode, queues=queues, read_only=readonly, allow_lazy=allow_lazy, probe=probe,
            pool=None if pool is None else pages_between(pool), stay=stay,
            say=lambda what: say(f"pagewarden: {what}"), tell=tell, live=live,
        )  # fmt: skip
    course.add(counts.requests, counts.open_now)
    answer(
        lambda: served_document(mode, counts, course.points), lambda out: print_served(mode, counts, out), json, html
    )


@serve.command()
@with_status
def storage_daemon(
    blockdev: Annotated[list[str], typer.Option(help="driver=file,node-name=NAME,filename=FILE[,read-only=on].")],
    export: Annotated[
        list[str],
        typer.Option(help="type=vhost-user-blk,id=ID,node-name=NAME,addr.type=unix,addr.path=PATH[,writable=on].."),
    ],
    mode: Annotated[str, typer.Option(help="As of `serve blk`.")] = "iommu",
) -> None:
    """The same by the words of qemu-storage-daemon, until SIGTERM: each export a process of its own.

    \b
    pagewarden serve storage-daemon --blockdev driver=file,node-name=disk0,filename=disk.img \\
        --export type=vhost-user-blk,id=e0,node-name=disk0,addr.type=unix,addr.path=/tmp/disk.sock,writable=on
    pagewarden serve storage-daemon --mode open --blockdev driver=file,node-name=d,filename=disk.img,read-only=on \\
        --export type=vhost-user-blk,id=e0,node-name=d,addr.type=fd,addr.str=3
    """
    from pagewarden.vhost.storage_daemon import block_words, serve_exports

    if status := serve_exports(block_words(blockdev, export), ["--mode", mode]):
        raise typer.Exit(status)
