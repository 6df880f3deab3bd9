"""The explored system written out for independent checkers."""

from collections.abc import Iterable

from pagewarden.check.export.model import model
from pagewarden.check.export.murphi import murphi
from pagewarden.check.export.promela import promela
from pagewarden.check.export.tla import tla
from pagewarden.check.page.system import Setting
from pagewarden.vocab import UserMistake

WRITERS = {"murphi": murphi, "promela": promela, "tla": tla}
TOOLS = {"rumur": "murphi", "spin": "promela", "tlc": "tla"}
"""The language of each tool."""
RUNS = {
    "murphi": "rumur {0} --symmetry-reduction off --output model.c && cc -O3 -mcx16 model.c -lpthread && ./a.out",
    "promela": "spin -a {0} && cc -O3 -DSAFETY -DNOREDUCE -o pan pan.c && ./pan -E -m2000000",
    "tla": "java -cp tla2tools.jar tlc2.TLC -deadlock {0}",
}
"""The command that checks a file of each."""


def export(setting: Setting, kind: str, asserts: Iterable[str] = ()) -> str:
    """The text of a model in `murphi`, `promela` or `tla`. UserMistake for another kind, and what cannot be said."""
    if kind not in WRITERS:
        guess = f" (for {kind}: {TOOLS[kind]})" if kind in TOOLS else ""
        raise UserMistake(f"--export {kind}: expected {' or '.join(WRITERS)}{guess}")
    return WRITERS[kind](model(setting, asserts))
