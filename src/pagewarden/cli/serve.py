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
    mode: Annotated[str, typer.Option(help="iommu: what the guest maps for DMA, while it does; open: all.")] = "iommu",
    queues: Annotated[int, typer.Option(min=1, help="Queues, as in num-queues= of QEMU.")] = 1,
    readonly: Annotated[bool, typer.Option("--readonly", help="The guest cannot write.")] = False,
    allow_lazy: Annotated[
        bool, typer.Option("--allow-lazy", help="Serve a guest that unmaps late, all at once.")
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="The device's process tries closed pages at random, all the while.")
    ] = False,
    html: Html = None,
    json: Json = False,
) -> None:
    """A block device for QEMU, in a process that sees only what the guest maps for DMA; a summary at the end.

    It ends with QEMU, and by Ctrl-C or SIGTERM. What QEMU and the guest must be told: docs/serve.md.

    \b
    pagewarden serve blk --socket /tmp/disk.sock --disk disk.img
    pagewarden serve blk --socket /tmp/disk.sock --disk disk.img --queues 4 --readonly --json
    pagewarden serve blk --socket /tmp/disk.sock --disk disk.img --mode open
    qemu-system-x86_64 ... -object memory-backend-memfd,id=m,size=1G,share=on -machine q35,memory-backend=m \\
        -chardev socket,id=c,path=/tmp/disk.sock -device vhost-user-blk-pci,chardev=c
    """
    import sys

    from pagewarden.report.pages import answer
    from pagewarden.report.serve import print_served, served_document
    from pagewarden.vhost.blk import MODES, serve_block
    from pagewarden.vocab import UserMistake

    if mode not in MODES:
        raise UserMistake(f"--mode {mode}: expected {' or '.join(MODES)}")
    counts = serve_block(
        socket, fd, disk, mode=mode, queues=queues, read_only=readonly, allow_lazy=allow_lazy, probe=probe,
        say=lambda what: print(f"pagewarden: {what}", file=sys.stderr, flush=True),
    )  # fmt: skip
    answer(lambda: served_document(mode, counts), lambda out: print_served(mode, counts, out), json, html)
