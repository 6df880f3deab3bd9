"""A fixture for each test that needs KVM."""

from collections.abc import Iterator

import pytest

from live import require
from pagewarden.live.kvm import Kvm, Vm
from pagewarden.vocab import Unavailable


@pytest.fixture
def vm() -> Iterator[Vm]:
    try:
        kvm = Kvm()
    except Unavailable as missing:
        require(False, str(missing))
        return
    with kvm, kvm.create_vm() as made:
        yield made
