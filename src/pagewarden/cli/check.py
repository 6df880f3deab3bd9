"""`pagewarden check`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pagewarden.cli.given import Html, Json, PluginFile, Repeated, Trace, With, Without, changed, only, place


def check(
    context: typer.Context,
    policy: Annotated[str, typer.Option(help="The kind of backing store: see `pagewarden law`.")] = "hybrid",
    design: Annotated[str, typer.Option(help="How the guest's I/O goes: see `pagewarden compare`.")] = "window",
    pages: Annotated[int, typer.Option(help="Pages of the guest, 1 to 8.")] = 2,
    vcpus: Annotated[int, typer.Option(help="vCPUs that touch, share and do I/O, 1 to 6.")] = 2,
    stranger: Annotated[
        str, typer.Option(metavar="all|none|LIST", help="What the host may try: strace,dma,punch,...")
    ] = "all",
    with_: With = None,
    without: Without = None,
    property_: Annotated[Repeated, typer.Option("--property", metavar="NAME", help="Ask only this.")] = None,
    search: Annotated[
        str, typer.Option(metavar="auto|together|apart", help="All pages at once, or one with all who act on it.")
    ] = "auto",
    symmetry: Annotated[bool, typer.Option(help="Pages, and vCPUs, are interchangeable.")] = True,
    max_memory: Annotated[
        str, typer.Option(metavar="SIZE", help="Of the explorer's arrays, as 512M, 8G; auto: most of what is free.")
    ] = "auto",
    max_seconds: Annotated[float, typer.Option(min=0, metavar="S", help="Stop then.")] = float("inf"),
    trace: Trace = None,
    matrix: Annotated[bool, typer.Option("--matrix", help="Every policy and every property.")] = False,
    minimal: Annotated[
        bool, typer.Option("--minimal", help="The smallest sets of the policy's mechanisms with which it all holds.")
    ] = False,
    bugs: Annotated[bool, typer.Option("--bugs", help="Is each bug of a public corpus found, with its fix?")] = False,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="keeper|migration", help="That of `keep`, or `migrate`; --without takes a guard away."),
    ] = None,
    executor: Annotated[
        str, typer.Option(metavar="local|dask://HOST:PORT", help="Where --minimal and --matrix run.")
    ] = "local",
    export: Annotated[
        str | None, typer.Option(metavar="murphi|promela|tla", help="Write the system to FILE for rumur, SPIN or TLC.")
    ] = None,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Of --export; none: standard output.")] = None,
    plugin: PluginFile = None,
    html: Html = None,
    json: Json = False,
) -> None:
    """Is a design safe in every interleaving? Explores every state that guest, VMM and a hostile host can reach.

    Status 0: everything that was asked holds (with --bugs: each is found, and its fix holds); 1: something fails, and
    the shortest way there is shown; 2: not every state was seen; 130: Ctrl-C, after what was known by then.

    \b
    pagewarden check
    pagewarden check --policy pkvm-2022 --property host-never-panics
    pagewarden check --policy pkvm-2022 --with gup-blocked --property host-never-panics
    pagewarden check --without iommu-guarded --stranger dma,file-io
    pagewarden check --plugin examples/own_design.py --design polled
    pagewarden check --matrix
    pagewarden check --bugs
    pagewarden check --protocol keeper --without userfaultfd-held
    pagewarden check --minimal --property host-never-reads-private
    pagewarden check --pages 1 --vcpus 1 --stranger strace --export murphi model.m
    """
    from pagewarden.check.page.strangers import stranger_named
    from pagewarden.check.page.system import Setting
    from pagewarden.cli import platforms

    modes = {
        "export": export is not None,
        "matrix": matrix,
        "minimal": minimal,
        "bugs": bugs,
        "protocol": protocol is not None,
    }
    mode = next((name for name, chosen in modes.items() if chosen), "one")
    only(context, *EFFECTIVE[mode])
    if bugs:
        _bugs(json)
        return
    if protocol is not None:
        _protocol(protocol, without, json)
        return
    own = platforms.plugin(plugin)
    chosen = changed(platforms.policy_of(policy, own), with_, without)
    (wanted,) = platforms.designs_of([design], own)
    setting = Setting(chosen, wanted, pages, vcpus, stranger_named(stranger), symmetry)
    names = tuple(property_ or ())
    limits = _limits(max_memory, max_seconds)
    if export is not None:
        _export(setting, names, export, file)
    elif matrix:
        _matrix(setting, names, limits, executor, json, html)
    elif minimal:
        _minimal(setting, names, limits, executor, json)
    else:
        _check(setting, names, limits, search, trace, json, html)


_SYSTEM = ("design", "pages", "vcpus", "stranger", "property_", "symmetry", "plugin")
_SOME_POLICY = ("policy", "with_", "without")
_LIMITED = ("max_memory", "max_seconds", "json")
EFFECTIVE = {
    "one": ("where one system is checked", (*_SYSTEM, *_SOME_POLICY, *_LIMITED, "search", "trace", "html")),
    "matrix": ("with --matrix", (*_SYSTEM, *_LIMITED, "executor", "matrix", "html")),
    "minimal": ("with --minimal", (*_SYSTEM, *_SOME_POLICY, *_LIMITED, "executor", "minimal")),
    "bugs": ("with --bugs", ("bugs", "json")),
    "protocol": ("with --protocol", ("protocol", "without", "json")),
    "export": ("with --export", (*_SYSTEM, *_SOME_POLICY, "export", "file")),
}
"""What is asked for, in words, and the parameters that matter there."""


def _check(
    setting: Any, names: tuple[str, ...], limits: Any, search: str, trace: Path | None, json: bool, html: Path | None
) -> None:
    from dataclasses import replace

    from pagewarden.check.verdict import check as explore
    from pagewarden.check.ways import ways
    from pagewarden.report.check import announcement, checked, print_report, progress_line
    from pagewarden.report.pages import answer
    from pagewarden.report.trace import counterexamples, write_trace

    def announce(*known: Any) -> None:
        if line.shown:
            print(announcement(*known), file=sys.stderr)

    with _Line() as line:
        report = explore(setting, names, limits, search, announce, lambda now: line(progress_line(now)))
        found = {} if report.interrupted else ways(report, replace(limits, seconds=limits.seconds - report.seconds))
    document = checked(report, found)
    answer(lambda: document, lambda out: print_report(report, found, out), json, html)
    if trace is not None:
        write_trace(trace, counterexamples(document.properties))
    if report.interrupted:
        raise KeyboardInterrupt
    if report.exit_code == 2 and (why := document.stopped):
        print(f"pagewarden: not every state was seen: {why}; raise the limit, or ask less", file=sys.stderr)
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _limits(memory: str, seconds: float) -> Any:
    from pagewarden.check.search.explorer import Limits

    if memory == "auto":
        return Limits(sharers=1, seconds=seconds)
    return Limits(memory=_bytes(memory), seconds=seconds)


def _bytes(text: str) -> int:
    """A size as 512M or 8G."""
    from pagewarden.vocab import UserMistake

    unit = {"K": 10, "M": 20, "G": 30, "T": 40}.get(text[-1:].upper(), 0)
    number = text[:-1] if unit else text
    if not number.isdecimal() or not int(number):
        raise UserMistake(f"--max-memory {text}: expected a size such as 512M or 8G, or auto")
    return int(number) << unit


def _matrix(setting: Any, names: tuple[str, ...], limits: Any, executor: str, json: bool, html: Path | None) -> None:
    from pagewarden.check.many import workers
    from pagewarden.check.matrix import matrix
    from pagewarden.report.check import matrix_document, print_matrix
    from pagewarden.report.pages import answer

    with workers(executor) as pool:
        found = matrix(setting, names, pool, limits)
    answer(lambda: matrix_document(found), lambda out: print_matrix(found, out), json, html)
    if found.unknown:
        raise KeyboardInterrupt
    if not found.exhausted:
        raise typer.Exit(2)


def _minimal(setting: Any, names: tuple[str, ...], limits: Any, executor: str, json: bool) -> None:
    from pagewarden.check.many import workers
    from pagewarden.check.minimal import minimal_sets
    from pagewarden.law.properties import ALWAYS
    from pagewarden.report.check import minimal_document, print_minimal
    from pagewarden.report.pages import answer

    names = names or tuple(ALWAYS)
    with workers(executor) as pool, _Line() as line:
        found = minimal_sets(setting, names, pool, limits, lambda tried, left: line(f"{tried} tried, {left:,} left"))
    answer(lambda: minimal_document(found, names, setting), lambda out: print_minimal(found, names, out), json)
    if found.interrupted:
        raise KeyboardInterrupt
    if found.left:
        raise typer.Exit(2)


def _protocol(name: str, without: Repeated, json: bool) -> None:
    from pagewarden.check.bugs import PROTOCOLS
    from pagewarden.check.protocol import check_protocol
    from pagewarden.report.pages import answer
    from pagewarden.report.protocol import print_protocol, protocol_document
    from pagewarden.vocab import one_of

    name = one_of("protocol", name, PROTOCOLS)
    report = check_protocol(PROTOCOLS[name], tuple(without or ()))
    answer(lambda: protocol_document(name, report), lambda out: print_protocol(name, report, out), json)
    if report.ways:
        raise typer.Exit(1)


def _bugs(json: bool) -> None:
    from pagewarden.check.bugs import search
    from pagewarden.report.bugs import bugs_document, print_bugs
    from pagewarden.report.pages import answer

    found = list(search())
    answer(lambda: bugs_document(found), lambda out: print_bugs(found, out), json)
    if not all(each.right for each in found):
        raise typer.Exit(1)


def _export(setting: Any, names: tuple[str, ...], kind: str, file: Path | None) -> None:
    from shlex import quote

    from pagewarden.check.export.languages import RUNS, export
    from pagewarden.report.console import in_bytes, write

    place(file)
    text = export(setting, kind, names)
    if file is None:
        print(text, end="")
    else:
        write(file, text)
        print(f"{file}: {in_bytes(len(text))} of {kind}; to check it: {RUNS[kind].format(quote(str(file)))}")


class _Line:
    """A line of progress on standard error, where that is a terminal."""

    def __enter__(self) -> "_Line":
        self.shown = sys.stderr.isatty()
        return self

    def __call__(self, text: str) -> None:
        if self.shown:
            print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
