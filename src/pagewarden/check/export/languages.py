"""The explored system written out for independent checkers."""

from collections.abc import Iterable

from pagewarden.check.export.model import model
from pagewarden.check.export.murphi import murphi
from pagewarden.check.export.promela import promela
from pagewarden.check.export.tla import tla
from pagewarden.check.page.system import Setting
from pagewarden.vocab import UserMistake

WRITERS = {"murphi": murphi, "promela": promela, "tla": tla}


def export(setting: Setting, kind: str, asserts: Iterable[str] = ()) -> str:
    """The text of a model in `murphi`, `promela` or `tla`. UserMistake for another kind, and what cannot be said."""
    if kind not in WRITERS:
        raise UserMistake(f"--export {kind}: expected {' or '.join(WRITERS)}")
    return WRITERS[kind](model(setting, asserts))
