"""`pagewarden compare`."""

from pathlib import Path
from typing import Annotated, Any

import typer


def compare(
    workload: Annotated[
        Path | None, typer.Argument(help="fio job file, fio iolog (v2, v3) or blkparse text; none: one 4 KiB write.")
    ] = None,
    design: Annotated[list[str] | None, typer.Option(help="Only this design; may be given several times.")] = None,
    policy: Annotated[str, typer.Option(help="What kind of backing store holds the guest's memory.")] = "hybrid",
    profile: Annotated[str, typer.Option(help="Prices: a shipped profile, this-host, or a file.")] = "vmx-skylake",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A price (tlbi_ns=500, =300..900) or an option (batch=false)."),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(metavar="NAME", help="One request of a design, or another procedure, step by step.")
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Bytes of the request when no workload is given.")] = 4096,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """What each I/O design costs on a workload: transitions, syscalls, copies, PTEs, TLB invalidations, ns.

    \b
    pagewarden compare examples/randrw.iolog
    pagewarden compare --policy pkvm --profile arm64-kunpeng --set cache=cold --set tlbi_ns=310..890
    pagewarden compare --explain window
    pagewarden compare --explain strace --policy pkvm-2022
    """
    from pagewarden.cli.options import setup
    from pagewarden.cli.progress import ProgressBars
    from pagewarden.cost import load_profile
    from pagewarden.designs import DESIGNS, design_named
    from pagewarden.law import policy_named
    from pagewarden.report.compare import comparison_json, print_comparison
    from pagewarden.report.console import console, print_json
    from pagewarden.studies.compare.comparison import compare as study
    from pagewarden.workload import load, single

    made = setup(policy_named(policy), load_profile(profile), set_ or [])
    if explain is not None:
        _explain(made, explain, size, json)
        return
    with ProgressBars() as progress:
        requests = load(workload, progress.of(f"reading {workload}")) if workload else single(size)
        found = study(made, requests, [design_named(name) for name in design or DESIGNS], progress)
    if json:
        print_json(comparison_json(found))
    else:
        print_comparison(found, console())


def _explain(made: Any, name: str, size: int, json: bool) -> None:
    from pagewarden.report.console import console, print_document
    from pagewarden.report.explain import explained, print_listing
    from pagewarden.studies.compare.explain import explain, procedure_named

    found = explain(made, procedure_named(made, name), size)
    policy, profile = made.policy.name, made.profile.name
    if json:
        print_document(explained(found, name, policy, profile))
    else:
        out = console()
        out.print(f"{name}, {size:,} bytes, policy {policy}, profile {profile}\n")
        print_listing(found, out)
    if found.refusal is not None:
        raise typer.Exit(1)
