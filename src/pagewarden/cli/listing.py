"""`pagewarden list`."""

from typing import Annotated

import typer

from pagewarden.cli.given import Json, Repeated


def listing(
    kinds: Annotated[
        Repeated, typer.Argument(metavar="[KIND]...", help="Such as policies or designs; none: all of them.")
    ] = None,
    json: Json = False,
) -> None:
    """Every name that can be given: policies, profiles, designs, options, ...

    \b
    pagewarden list policies
    pagewarden list designs procedures --json
    """
    from pagewarden.cli.names import KINDS
    from pagewarden.report.listing import names_document, print_names
    from pagewarden.report.pages import answer
    from pagewarden.vocab import one_of

    chosen = [one_of("kind of name", kind, KINDS) for kind in kinds or KINDS]
    found = {kind: KINDS[kind]() for kind in chosen}
    answer(lambda: names_document(found), lambda out: print_names(found, out), json)
