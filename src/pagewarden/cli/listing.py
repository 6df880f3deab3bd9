"""`pagewarden list`."""

from typing import Annotated

import typer

from pagewarden.cli.given import Json, PluginFile, Repeated


def listing(
    kinds: Annotated[
        Repeated, typer.Argument(metavar="[KIND]...", help="Such as policies or designs; none: all of them.")
    ] = None,
    plugin: PluginFile = None,
    json: Json = False,
) -> None:
    """Every name that can be given: policies, profiles, designs, options, ...

    \b
    pagewarden list policies
    pagewarden list designs procedures --json
    pagewarden list designs --plugin examples/own_design.py
    """
    from pagewarden.cli import platforms
    from pagewarden.cli.names import KINDS, of_plugin
    from pagewarden.report.listing import names_document, print_names
    from pagewarden.report.pages import answer
    from pagewarden.vocab import UserMistake, one_of

    chosen = [one_of("kind of name", kind, KINDS) for kind in kinds or KINDS]
    more = of_plugin(platforms.plugin(plugin))
    if plugin is not None and not any(kind in more for kind in chosen):
        raise UserMistake(f"--plugin has no effect on {', '.join(chosen)}; leave it out")
    found = {kind: {**KINDS[kind](), **more.get(kind, {})} for kind in chosen}
    answer(lambda: names_document(found), lambda out: print_names(found, out), json)
