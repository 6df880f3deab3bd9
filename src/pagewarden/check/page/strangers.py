"""What the host may try on any page at any time: the stranger's abilities, by name."""

from dataclasses import dataclass

from pagewarden.law import Op
from pagewarden.vocab import UserMistake, one_of


@dataclass(frozen=True)
class Ability:
    """What it is, in words; single operations in any order, and procedures (of `designs.PROCEDURES`) step by step.
    needs: the locks without which those show nothing, and are left out."""

    says: str
    ops: tuple[Op, ...] = ()
    procedures: tuple[str, ...] = ()
    needs: str = ""


_KMAP = (Op.KMAP_READ, Op.KMAP_WRITE)
_ALIAS = (Op.ALIAS_LOAD, Op.ALIAS_STORE, Op.ALIAS_CLOSE)

STRANGERS = {
    "strace": Ability(
        "a debugger reads the guest's pages through the VMM's pointers: process_vm_readv, by GUP and the direct map",
        procedures=("strace",),
    ),
    "touch": Ability(
        "the VMM, or whoever has its window, loads and stores there, and gives its pointers to system calls",
        (Op.HOST_LOAD, Op.HOST_STORE, Op.UACCESS_READ, Op.UACCESS_WRITE),
    ),
    "o-direct": Ability(
        "I/O of the host pins the window's pages by GUP, and the kernel copies to and from them",
        (Op.GUP_PIN, *_KMAP, Op.UNPIN, Op.UNPIN_OLD),
    ),
    "vmsplice": Ability(
        "pages of the window are pinned into a pipe, which is read whenever it pleases",
        (Op.GUP_PIN, Op.KMAP_READ, Op.UNPIN, Op.UNPIN_OLD),
    ),
    "io-uring": Ability(
        "the window is registered as a fixed buffer: pinned for as long as the ring lives",
        (Op.GUP_PIN, *_KMAP, Op.UNPIN, Op.UNPIN_OLD),
    ),
    "file-io": Ability(
        "pread, pwrite and splice on the file, by whoever has it open", (Op.FD_GET, *_KMAP, Op.UNPIN, Op.UNPIN_OLD)
    ),
    "dma": Ability(
        "a driver pins pages of the window or the file, maps them for a device, and the device reads and writes",
        (
            Op.GUP_PIN,
            Op.FD_GET,
            Op.DMA_MAP,
            Op.DMA_READ,
            Op.DMA_WRITE,
            Op.DMA_UNMAP,
            Op.IOTLB_INV,
            Op.UNPIN,
            Op.UNPIN_OLD,
        ),
    ),
    "fork": Ability("the process with the window forks, and the child uses what it got", (Op.FORK, *_ALIAS)),
    "mremap": Ability("the window is moved, and used where its guard does not follow", (Op.MREMAP, *_ALIAS)),
    "reopen": Ability(
        "the file is mapped once more, by /proc or a kept descriptor, or the window's permission given back",
        (Op.REOPEN, *_ALIAS),
    ),
    "discard": Ability(
        "madvise on the window: MADV_REMOVE punches, MADV_DONTNEED drops the entry",
        (Op.HOST_DISCARD, Op.HOST_DROP, *_ALIAS),
    ),
    "core-dump": Ability("the kernel writes the window into a core file", (Op.CORE_DUMP,)),
    "kcore": Ability("root reads all memory through /proc/kcore", (Op.KCORE_READ,)),
    "punch": Ability("whoever has the file punches holes, step by step as the kernel does it", procedures=("punch",)),
    "slot-delete": Ability("the VMM deletes the memslot and adds it again", (Op.SLOT_DELETE, Op.SLOT_ADD)),
    "migrate": Ability("the host kernel moves the page to another frame, step by step", procedures=("migrate-page",)),
    "swap": Ability("the host kernel writes the page out, step by step", procedures=("swap-out",)),
    "swap-read": Ability("the host reads the swap copy", (Op.SWAP_READ,)),
    "swap-tamper": Ability("the host changes the swap copy before it is read back", (Op.SWAP_IN_TAMPERED,)),
    "swap-stale": Ability("the host hands back an earlier swap copy", (Op.SWAP_IN_STALE,)),
    "populate": Ability("the VMM loads a payload into a page", (Op.POPULATE,)),
    "payload": Ability(
        "the same, under the kernel's locks, where the policy speaks of mmap_lock",
        procedures=("payload",),
        needs="mmap-lock",
    ),
    "lend-hyp": Ability(
        "the host lends pKVM's hypervisor a page and takes it back, where the policy speaks of component locks",
        procedures=("lend-hyp",),
        needs="component-locks",
    ),
    "reclaim": Ability("the host takes a private page by force", (Op.FORCE_RECLAIM,)),
    "teardown": Ability("the guest ends, and its pages are given to another", procedures=("teardown",)),
}
"""strace, O_DIRECT, vmsplice and io_uring's fixed buffers: mail of 6 April 2022, and what else pins by GUP."""


def stranger_named(text: str) -> tuple[str, ...]:
    """The abilities of a comma-separated list, in the order of the table; `all`, `none`. UserMistake names the rest."""
    if text in ("all", "none"):
        return tuple(STRANGERS) if text == "all" else ()
    names = {one_of("stranger", name.strip(), ("all", "none", *STRANGERS)) for name in text.split(",")}
    if unknown := names - STRANGERS.keys():
        raise UserMistake(f"--stranger {text}: {sorted(unknown)[0]} stands alone; leave the others out")
    return tuple(name for name in STRANGERS if name in names)
