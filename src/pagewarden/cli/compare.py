"""`pagewarden compare`."""

from typing import Annotated, Any

import typer

from pagewarden.cli.given import Html, Json, PluginFile, Repeated, only


def compare(
    context: typer.Context,
    workload: Annotated[
        Repeated,
        typer.Argument(
            help="A file of requests (docs/workloads.md), - for standard input, -- fio OPTIONS; none: one 4 KiB write."
        ),
    ] = None,
    design: Annotated[Repeated, typer.Option(help="Only this design; may be given several times.")] = None,
    platform: Annotated[
        str | None, typer.Option(metavar="NAME", help="Sets policy and profile: sev-snp, tdx, pkvm, svm, vmx, ...")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="What kind of backing store holds the guest's memory: hybrid.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Prices: a shipped profile, this-host, or a file: vmx-skylake.")
    ] = None,
    plugin: PluginFile = None,
    set_: Annotated[
        Repeated,
        typer.Option("--set", metavar="KEY=VALUE", help="A price (tlbi_ns=500, =300..900) or an option (batch=false)."),
    ] = None,
    section: Annotated[
        Repeated, typer.Option(metavar="NAME", help="Only this job of a fio job file; repeatable.")
    ] = None,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Requests of a fio job whose size only its device would tell: 10,000.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Of a CSV trace: time, op, offset, size, sector, sectors, -.")
    ] = None,
    driver: Annotated[
        str, typer.Option(metavar="NAME", help="linux-virtio-blk: count the DMA mappings that a stock driver makes.")
    ] = "listing",
    explain: Annotated[
        str | None, typer.Option(metavar="NAME", help="One request of a design, or another procedure, step by step.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Bytes of the request when no workload is given: 4096, 64k.")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(metavar="LOW..HIGH", help="One request of each size: 4k..1m, or 4k,64k.")
    ] = None,
    decide: Annotated[bool, typer.Option("--decide", help="Which prices, measured, would settle it.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values, a row a design.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="All counts, in as many columns as it takes.")] = False,
    html: Html = None,
    json: Json = False,
) -> None:
    """What each I/O design costs on a workload: transitions, syscalls, copies, PTEs, TLB invalidations, time.

    \b
    pagewarden compare examples/randrw.iolog
    pagewarden compare -- fio --name=a --rw=randread --bs=4k --size=1g --direct=1
    pagewarden compare --columns time,op,offset,size trace.csv
    pagewarden compare --policy pkvm --profile arm64-kunpeng --set cache=cold --set tlbi_ns=310..890
    pagewarden compare --platform sev-snp --sizes 4k..1m
    pagewarden compare --explain window
    pagewarden compare --size 64k --decide
    """
    from pagewarden.cli import compare_modes, platforms
    from pagewarden.cli.options import setup
    from pagewarden.cli.progress import ProgressBars
    from pagewarden.cli.sizes import size as bytes_of
    from pagewarden.cli.sizes import sizes as parsed
    from pagewarden.cost import load_profile
    from pagewarden.designs import DESIGNS
    from pagewarden.report.compare import compared, print_comparison
    from pagewarden.report.decide import decided, print_decided
    from pagewarden.report.pages import answer
    from pagewarden.report.sizes import print_csv
    from pagewarden.studies.compare.comparison import compare as study
    from pagewarden.vocab import UserMistake
    from pagewarden.workload.dma_mappings import DmaMappings
    from pagewarden.workload.load import Reading

    if decide and (csv or wide):
        raise UserMistake("--decide says what to measure: --csv and --wide have no effect with it; leave them out")
    if csv + json + wide > 1:
        raise UserMistake("--csv, --json and --wide are forms of one answer: give one of them")
    if workload and (size is not None or sizes is not None):
        raise UserMistake("--size and --sizes are for single requests and have no effect on a workload; leave them out")
    mode = (
        "explain" if explain is not None else "sizes" if sizes is not None else "driver" if driver != "listing" else ""
    )
    only(context, *compare_modes.EFFECTIVE[mode or ("workload" if workload else "single")])
    if platform is not None and policy is not None and profile is not None:
        raise UserMistake("--platform has no effect beside --policy and --profile, which it sets; leave it out")
    own = platforms.plugin(plugin)
    kind, prices = platforms.chosen(platform, policy, profile)
    backing, known = platforms.policy_of(kind, own), load_profile(prices)
    made = setup(backing, known, set_ or [], platforms.apart(backing, known.name))
    designs = platforms.designs_of(design or [*DESIGNS, *own.designs], own)
    if explain is not None:
        compare_modes.explain_one(made, explain, bytes_of("4k" if size is None else size), json, own.designs)
        return
    with ProgressBars() as progress:
        if sizes is not None:
            compare_modes.by_size(made, parsed(sizes), designs, json, csv, html)
            return
        reading = Reading(requests, tuple(section or ()), tuple(columns.split(",")) if columns is not None else ())
        wanted = _wanted(workload or [], size, reading, progress)
        if driver != "listing" or isinstance(wanted, DmaMappings):
            only(context, *compare_modes.EFFECTIVE["mappings"])
            compare_modes.mappings(wanted, driver, json)
            return
        found = study(made, wanted, designs, progress)
    if decide:
        decision = decided(found)
        answer(lambda: decision, lambda out: print_decided(decision, out), json, html)
        return
    answer(
        lambda: compared(found),
        lambda out: print_csv([found]) if csv else print_comparison(found, out, wide),
        json,
        html,
    )


def _wanted(words: list[str], size: str | None, reading: Any, progress: Any) -> Any:
    """The workload that the words name."""
    from pagewarden.cli.sizes import size as bytes_of
    from pagewarden.vocab import UserMistake
    from pagewarden.workload import single
    from pagewarden.workload.load import load_any, of_fio

    if not words:
        return single(bytes_of("4k" if size is None else size))
    if words[0] == "fio" or words[0].startswith("--"):
        return of_fio(words, reading)
    if len(words) > 1:
        raise UserMistake(f"one workload at a time: give {words[0]} alone, or fio's command line behind `-- fio`")
    return load_any(words[0], progress.of(f"reading {words[0]}"), reading)
