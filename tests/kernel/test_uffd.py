"""A userfaultfd, and whose touches wait at it."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from pagewarden.abi import uffd
from pagewarden.kernel.door import readable
from pagewarden.kernel.region import Region
from pagewarden.kernel.uffd import Userfault
from pagewarden.vocab import PAGE_SIZE


@pytest.mark.parametrize("user_mode_only", [True, False])
def test_a_touch_by_the_kernel_waits_or_fails_as_it_was_asked_for(user_mode_only: bool) -> None:
    region = Region(PAGE_SIZE)
    region.fill()
    out, into = os.pipe()
    with closing(region), closing(Userfault(0, user_mode_only=user_mode_only)) as fault, ThreadPoolExecutor(1) as pool:
        fault.register(region.address, PAGE_SIZE, uffd.UFFDIO_REGISTER_MODE_MISSING)
        written = pool.submit(os.write, into, region.memory[:1])
        if user_mode_only:
            with pytest.raises(OSError, match="Bad address"):
                written.result()
        else:
            assert readable([fault.fd], 60)
            assert not written.done() and fault.messages()[0][2] == region.address
            fault.zero(region.address, PAGE_SIZE)
            assert written.result() == 1 and os.read(out, 2) == b"\0"
    os.close(out)
    os.close(into)
