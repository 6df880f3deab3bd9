"""Which pages of a mapping were written since they were last asked for: the kernel's own log, nobody waits for it."""

import ctypes
import errno
import os

import numpy as np
from numpy.typing import NDArray

from pagewarden.abi import pagemap, uffd
from pagewarden.kernel.door import ioctl, opened_path
from pagewarden.kernel.uffd import Userfault
from pagewarden.vocab import PAGE_SIZE, Unavailable

_FEATURES = uffd.FEATURES["UFFD_FEATURE_WP_ASYNC"] | uffd.UFFD_FEATURE_WP_HUGETLBFS_SHMEM
_REGIONS = 4096


class WrittenPages:
    """Write protection that the kernel lifts by itself (UFFD_FEATURE_WP_ASYNC), and PAGEMAP_SCAN, which reads where it
    did and protects again in one step (fs/proc/task_mmu.c, do_pagemap_scan). Linux 6.7."""

    def __init__(self, address: int, size: int) -> None:
        """From now on writes through the mapping are noted. Unavailable where this kernel, or this kind of memory, or
        a mapping that another userfaultfd has, cannot be watched so."""
        self._address, self._size = address, size
        self._fault = Userfault(_FEATURES)
        self._pagemap = opened_path("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._regions = np.zeros((_REGIONS, pagemap.PAGE_REGION_WORDS), np.uint64)
        try:
            self._fault.register(address, size, uffd.UFFDIO_REGISTER_MODE_WP)
            self._fault.write_protect(address, size)
            self._scan(address)
        except OSError as error:
            self.close()
            what = "PAGEMAP_SCAN" if error.errno == errno.ENOTTY else "write protection of this memory"
            why = f"writes cannot be followed: {what}: {error.strerror}"
            raise Unavailable(why, "the guest is stopped for the whole copy") from error

    def collect(self) -> NDArray[np.int64]:
        """Pages written since the last call, ascending, from the start of the mapping; they are watched again. What is
        read of a page afterwards is what was written, or newer, and then it is in the next answer. OSError."""
        end, at, found = self._address + self._size, self._address, []
        while at < end:
            count, at = self._scan(at)
            for start, stop, _ in self._regions[:count].tolist():
                found.append(np.arange((start - self._address) // PAGE_SIZE, (stop - self._address) // PAGE_SIZE))
        return np.concatenate(found).astype(np.int64) if found else np.zeros(0, np.int64)

    def _scan(self, start: int) -> tuple[int, int]:
        """Regions found from there on, and where the walk ended."""
        argument = pagemap.pm_scan_arg(
            size=ctypes.sizeof(pagemap.pm_scan_arg), flags=pagemap.PM_SCAN_WP_MATCHING | pagemap.PM_SCAN_CHECK_WPASYNC,
            start=start, end=self._address + self._size, vec=self._regions.ctypes.data, vec_len=_REGIONS,
            category_mask=pagemap.PAGE_IS_WRITTEN, return_mask=pagemap.PAGE_IS_WRITTEN,
        )  # fmt: skip
        count = ioctl(self._pagemap.fd, pagemap.PAGEMAP_SCAN, ctypes.byref(argument), "PAGEMAP_SCAN")
        return count, int(argument.walk_end)

    def close(self) -> None:
        """Watch no more. Twice is once."""
        self._fault.close()
        self._pagemap.close()
