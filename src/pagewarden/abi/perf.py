"""perf_event_open: include/uapi/linux/perf_event.h, names verbatim."""

from ctypes import Structure, c_int32, c_uint16, c_uint32, c_uint64

from pagewarden.abi import each

PERF_TYPE_TRACEPOINT = 2
PERF_FORMAT_GROUP = 1 << 3
PERF_FLAG_FD_CLOEXEC = 1 << 3

PERF_EVENT_IOC_ENABLE = 0x2400
PERF_EVENT_IOC_DISABLE = 0x2401
PERF_EVENT_IOC_SET_FILTER = 0x40082406
PERF_IOC_FLAG_GROUP = 1

ATTR_DISABLED = 1 << 0  # the first bit of the bit-field in perf_event_attr


class perf_event_attr(Structure):
    """Up to PERF_ATTR_SIZE_VER7."""

    _fields_ = (
        *each(c_uint32, "type size"),
        *each(c_uint64, "config sample_period sample_type read_format flags"),
        *each(c_uint32, "wakeup_events bp_type"),
        *each(c_uint64, "config1 config2 branch_sample_type sample_regs_user"),
        ("sample_stack_user", c_uint32),
        ("clockid", c_int32),
        ("sample_regs_intr", c_uint64),
        ("aux_watermark", c_uint32),
        *each(c_uint16, "sample_max_stack reserved_2"),
        *each(c_uint32, "aux_sample_size reserved_3"),
        ("sig_data", c_uint64),
    )
