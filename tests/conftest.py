"""Settings and fixtures of all tests."""

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from live import required
from pagewarden.cost import Profile, load_profile
from pagewarden.kernel.kvm import Kvm, Vm
from verbs import Verb, verb_of

# No deadline: the first call of a compiled loop compiles it, and machines are shared. The same examples each time, so
# that a run says what the run before said; other ones with PAGEWARDEN_LONG=1.
settings.register_profile("pagewarden", deadline=None, derandomize=os.environ.get("PAGEWARDEN_LONG") != "1")
settings.load_profile("pagewarden")

# One place for what is compiled, of this tree alone: other trees, which this user may have, throw nothing out of it.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".cache"))

# Every interpreter that a test starts, inside a guest too, finds these modules compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Pages are as wide as in a pipe: readline, which pytest loads, puts COLUMNS into the environment of its workers.
os.environ.pop("COLUMNS", None)

# What this user, or a test beside this one, has calibrated is not what a test speaks of; it is left alone.
os.environ["XDG_CONFIG_HOME"] = str(
    Path(__file__).parents[1] / ".cache" / f"settings-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
)

# A shell that starts the suite in its background has it ignore Ctrl-C, and every process that a test starts with it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, the others run beside it; then what forks much, while there is little to copy."""
    early = ("lab/test_qemu.py", "probe/test_paths.py", "studies/probe/test_matrix.py")
    places = {str(Path(__file__).parent / name): place for place, name in enumerate(early)}
    items.sort(key=lambda item: places.get(str(item.path), len(early)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """What this machine lacks is the reason of a skip, wherever a test or its fixtures meet it (live.require)."""
    with required():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    with required():
        yield


@pytest.fixture(scope="module", autouse=True)
def what_is_there_is_never_collected() -> None:
    """A collection looks at what this file's tests have made, not at all that those before them have kept."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def vm() -> Iterator[Vm]:
    """A KVM virtual machine, for a test that needs one."""
    kvm = Kvm()
    with kvm, kvm.create_vm() as made:
        yield made


@pytest.fixture
def verb(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verb:
    """`pagewarden ...` in this process."""
    return verb_of(capfd, monkeypatch)


@pytest.fixture(scope="session")
def recorded() -> Profile:
    """A profile that `pagewarden calibrate` wrote once, on a virtual machine with Linux 6.18: it is data, not a bar."""
    return load_profile(Path(__file__).parent / "studies" / "calibrate" / "recorded.toml")
