"""`pagewarden run`."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pagewarden.cli.given import Html, Json, Trace, only


def run(
    context: typer.Context,
    workload: Annotated[
        Path | None, typer.Argument(help="fio job file, fio iolog (v2, v3) or blkparse text; none: a small mix.")
    ] = None,
    design: Annotated[str, typer.Option(help="How the I/O goes: see `pagewarden compare`.")] = "window",
    backing: Annotated[
        str, typer.Option(help="auto, uffd-window, memfd-secret, memfd; for the interpreted CPU any policy.")
    ] = "auto",
    cpu: Annotated[str, typer.Option(help="auto, unicorn (emulated), kvm, interpreted (on the model).")] = "auto",
    disk: Annotated[Path | None, typer.Option(metavar="FILE", help="The guest's disk; none: a temporary file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="What is on FILE may be lost.")] = False,
    requests: Annotated[
        int | None, typer.Option(min=1, max=1 << 24, metavar="N", help="Only the first N requests.")
    ] = None,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="The device in a process of its own that is not trusted.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare the disk and the last buffers, too.")] = False,
    all_designs: Annotated[
        bool, typer.Option("--all-designs", help="Every design live, beside what the model says.")
    ] = False,
    check_counts: Annotated[
        bool, typer.Option("--check-counts", help="Every design: are the counts those of the model, exactly?")
    ] = False,
    predict: Annotated[
        bool, typer.Option("--predict", help="Every design, 4 KiB to 1 MiB: by this host's prices, and by the clock.")
    ] = False,
    limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Private pages that may be resident; needs --swap.")
    ] = None,
    swap: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the others lie, sealed: made anew.")] = None,
    snapshot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Stop half way, the guest sealed into FILE; needs --key, --disk."),
    ] = None,
    restore: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Go on from there, with the same requests and disk.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of the two: 32 bytes; --snapshot makes it where none is.")
    ] = None,
    trace: Trace = None,
    html: Html = None,
    json: Json = False,
) -> None:
    """Boot a guest in private memory, let it do its I/O with a virtio block device, and check every byte.

    Prints what it cost, how fast it was, and what of the guest's private memory the host could see. The status is 1
    when a byte was wrong, a count was not the predicted one, or the host could see a private byte; 2 when the host
    failed, or could not be searched whole, so that there is no answer.

    \b
    pagewarden run
    pagewarden run --design iommu --cpu kvm --verify examples/randrw.iolog
    pagewarden run --isolated --json
    pagewarden run --limit 64k --swap /tmp/guest.swap --verify
    pagewarden run --snapshot guest.snap --key guest.key --disk disk.img
    pagewarden run --restore guest.snap --key guest.key --disk disk.img --verify
    pagewarden run --trace run.pftrace
    pagewarden run --all-designs
    pagewarden run --check-counts
    pagewarden run --predict --cpu kvm
    """
    from pagewarden.cli import run_modes as modes
    from pagewarden.cli.progress import ProgressBars
    from pagewarden.cli.sizes import size
    from pagewarden.report.pages import answer
    from pagewarden.report.trace import write_trace
    from pagewarden.studies.run.disk import open_disk
    from pagewarden.studies.run.plan import RunPlan
    from pagewarden.studies.run.traced import Recorder
    from pagewarden.vocab import GuestStopped, UserMistake

    if all_designs + check_counts + predict > 1:
        raise UserMistake("--all-designs, --check-counts and --predict are different things: ask for one of them")
    asked = "all" if all_designs else "check" if check_counts else "predict" if predict else "one"
    only(context, *modes.EFFECTIVE[asked])
    if overwrite and disk is None:
        raise UserMistake("--overwrite is about --disk FILE: a temporary disk has nothing to lose; leave it out")
    if isolated and cpu == "interpreted":
        raise UserMistake("--isolated has no effect with --cpu interpreted, which runs on the model; leave it out")
    if (snapshot or restore) is not None and disk is None:
        raise UserMistake("--snapshot and --restore need --disk FILE: a temporary disk would be gone in between")
    plan = RunPlan(
        design, backing, cpu, isolated, verify, limit=None if limit is None else size(limit), swap=swap,
        snapshot=snapshot, restore=restore, key=key,
    )  # fmt: skip
    recorder = Recorder(plan.design) if trace or html else None
    one = partial(modes.one, recorder=recorder)
    mode = modes.all_designs if all_designs else modes.check_counts if check_counts else one
    mode = modes.predict if predict else mode
    with ProgressBars() as progress:
        chosen = modes.requests(workload, requests, check_counts, progress)
        lost = overwrite or restore is not None
        with open_disk(chosen, disk, lost, source=workload, make=snapshot is not None) as opened:
            try:
                found = mode(plan, chosen, opened, progress)
            except GuestStopped as stopped:
                print(f"pagewarden: {stopped}", file=sys.stderr)
                raise typer.Exit(1) from stopped
    if trace is not None and recorder is not None:
        write_trace(trace, recorder.timeline)
    answer(found.document, found.show, json, html)
    if found.status == 2:
        why = "the host failed, or could not be searched whole; the report says where, mend that and run again"
        print(f"pagewarden: there is no answer: {why}", file=sys.stderr)
    if found.status:
        raise typer.Exit(found.status)
