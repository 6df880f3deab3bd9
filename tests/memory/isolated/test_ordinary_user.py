"""The same without privileges: a userfaultfd for user-mode faults is enough for the guard."""

from live import require
from pagewarden.probe.capabilities import capabilities
from programs import KITS, interpreter_for, started
from waits import SOON


def test_private_memory_needs_no_privilege() -> None:
    available = {found.name: found.available for found in capabilities()}
    require(available["uffd-window"], "no userfaultfd window here")
    backings = ["uffd-window", *(["memfd-secret"] if available["memfd_secret"] else [])]
    with started("ordinary", interpreter_for("ordinary"), str(KITS / "ordinary_user.py"), *backings) as program:
        said, words = program.communicate(timeout=SOON)
    assert program.returncode == 0 and said == "all done\n", words
