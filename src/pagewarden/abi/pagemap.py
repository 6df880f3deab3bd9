"""PAGEMAP_SCAN, Linux 6.7: include/uapi/linux/fs.h, names verbatim."""

from ctypes import Structure, c_uint64

PAGEMAP_SCAN = 0xC0606610
PAGE_IS_WRITTEN = 1 << 1
PM_SCAN_WP_MATCHING, PM_SCAN_CHECK_WPASYNC = 1 << 0, 1 << 1


class pm_scan_arg(Structure):
    _fields_ = tuple(
        (name, c_uint64)
        for name in (
            "size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages", "category_inverted",
            "category_mask", "category_anyof_mask", "return_mask",
        )
    )  # fmt: skip


PAGE_REGION_WORDS = 3
"""struct page_region: start, end, categories, 64 bits each."""
