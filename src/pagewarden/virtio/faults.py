"""What can be wrong with a ring, and the error that says so."""

from pagewarden.vocab import PagewardenError

(
    NONE,
    HEAD_RANGE,
    NEXT_RANGE,
    TWICE,
    CHAIN_LONG,
    EMPTY,
    OUTSIDE,
    INDIRECT_OFF,
    INDIRECT_NEXT,
    INDIRECT_SIZE,
    NESTED,
    ORDER,
    SHORT_HEADER,
    NO_STATUS,
    TOO_BIG,
) = range(15)

_WHAT = {
    HEAD_RANGE: "the avail ring names descriptor {}, which the table does not have",
    NEXT_RANGE: "the chain goes on at descriptor {}, which the table does not have",
    TWICE: "descriptor {} is met a second time: the chain loops, or two chains share it",
    CHAIN_LONG: "the chain has {} descriptors, more than the device takes",
    EMPTY: "a descriptor of zero length at gpa {:#x}",
    OUTSIDE: "a descriptor at gpa {:#x} reaches beyond the memory",
    INDIRECT_OFF: "descriptor {} is indirect, which was not negotiated",
    INDIRECT_NEXT: "descriptor {} is indirect and has a next one",
    INDIRECT_SIZE: "an indirect table of {} bytes is not a positive multiple of 16",
    NESTED: "descriptor {} of an indirect table is indirect itself",
    ORDER: "a device-readable descriptor at gpa {:#x} follows a device-writable one",
    SHORT_HEADER: "the request header lacks {} bytes",
    NO_STATUS: "the chain of {} readable bytes has no writable byte for the status",
    TOO_BIG: "the request has {} bytes of data, more than the device takes",
}


def describe(fault: int, detail: int) -> str:
    """A fault in words; detail is an index, a gpa or a size, as the fault has it, of 64 bits."""
    return _WHAT[fault].format(detail % (1 << 64))


class DeviceNeedsReset(PagewardenError):
    """The device cannot go on before the driver resets it (virtio 1.2, 2.1.2: DEVICE_NEEDS_RESET).

    queue: index of the virtqueue; head: first descriptor of the chain at fault, or None where the ring itself is.
    """

    def __init__(
        self,
        queue: int,
        head: int | None,
        what: str,
        why: str = "the driver broke the virtio rules or took back memory in use",
    ) -> None:
        where = f"queue {queue}" if head is None else f"queue {queue}, head {head}"
        super().__init__(f"{where}: {what}; {why}; nothing of this batch was completed: reset the device")
        self.queue, self.head, self.what = queue, head, what


class UsedRingBroken(PagewardenError):
    """The device handed back what the driver never gave it, or more than that: it is hostile or broken."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the used ring {what}; the device broke the virtio rules: trust none of its data, reset it")
