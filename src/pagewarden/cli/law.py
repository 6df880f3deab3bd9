"""`pagewarden law`."""

from typing import Annotated

import typer

from pagewarden.cli.given import Json, Repeated, With, Without, changed


def law(
    policy: Annotated[str, typer.Option(help="A kernel object, or one as it is used: OBJECT+USAGE.")] = "hybrid",
    op: Annotated[Repeated, typer.Option(help="Only this operation; may be given several times.")] = None,
    with_: With = None,
    without: Without = None,
    json: Json = False,
) -> None:
    """A policy's rules: what each operation does to a page, case by case, with the sources of the rule and the rows of
    `pagewarden probe` that showed it, where a kernel was asked.

    \b
    pagewarden law --policy hybrid --op gup_pin
    pagewarden law --policy pkvm-2022 --with gup-blocked --op kmap_read
    """
    from pagewarden.law import Op, policy_named
    from pagewarden.report.law import law_document, print_law
    from pagewarden.report.pages import answer
    from pagewarden.vocab import one_of

    known = {operation.key: operation for operation in Op}
    chosen = changed(policy_named(policy), with_, without)
    ops = [known[one_of("operation", name, known)] for name in op] if op else list(Op)
    answer(lambda: law_document(chosen, ops), lambda out: print_law(chosen, ops, out), json)
