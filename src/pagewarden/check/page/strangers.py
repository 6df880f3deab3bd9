"""What the host may try on any page at any time: the stranger's abilities, by name."""

from dataclasses import dataclass

from pagewarden.law import Op
from pagewarden.vocab import UserMistake, one_of


@dataclass(frozen=True)
class Ability:
    """Single operations in any order, and procedures (of `designs.PROCEDURES`) step by step."""

    ops: tuple[Op, ...] = ()
    procedures: tuple[str, ...] = ()


_KMAP = (Op.KMAP_READ, Op.KMAP_WRITE)
_ALIAS = (Op.ALIAS_LOAD, Op.ALIAS_STORE, Op.ALIAS_CLOSE)

STRANGERS = {
    "strace": Ability(procedures=("strace",)),
    "touch": Ability((Op.HOST_LOAD, Op.HOST_STORE, Op.UACCESS_READ, Op.UACCESS_WRITE)),
    "o-direct": Ability((Op.GUP_PIN, *_KMAP, Op.UNPIN, Op.UNPIN_OLD)),
    "vmsplice": Ability((Op.GUP_PIN, Op.KMAP_READ, Op.UNPIN, Op.UNPIN_OLD)),
    "io-uring": Ability((Op.GUP_PIN, *_KMAP, Op.UNPIN, Op.UNPIN_OLD)),
    "file-io": Ability((Op.FD_GET, *_KMAP, Op.UNPIN, Op.UNPIN_OLD)),
    "dma": Ability(
        (Op.GUP_PIN, Op.FD_GET, Op.DMA_MAP, Op.DMA_READ, Op.DMA_WRITE, Op.DMA_UNMAP, Op.IOTLB_INV, Op.UNPIN,
         Op.UNPIN_OLD)
    ),
    "fork": Ability((Op.FORK, *_ALIAS)),
    "mremap": Ability((Op.MREMAP, *_ALIAS)),
    "reopen": Ability((Op.REOPEN, *_ALIAS)),
    "discard": Ability((Op.HOST_DISCARD, Op.HOST_DROP, *_ALIAS)),
    "core-dump": Ability((Op.CORE_DUMP,)),
    "kcore": Ability((Op.KCORE_READ,)),
    "punch": Ability(procedures=("punch",)),
    "slot-delete": Ability((Op.SLOT_DELETE, Op.SLOT_ADD)),
    "migrate": Ability(procedures=("migrate-page",)),
    "swap": Ability(procedures=("swap-out",)),
    "swap-read": Ability((Op.SWAP_READ,)),
    "swap-tamper": Ability((Op.SWAP_IN_TAMPERED,)),
    "swap-stale": Ability((Op.SWAP_IN_STALE,)),
    "populate": Ability((Op.POPULATE,)),
    "reclaim": Ability((Op.FORCE_RECLAIM,)),
    "teardown": Ability(procedures=("teardown",)),
}  # fmt: skip
"""strace, O_DIRECT, vmsplice and io_uring's fixed buffers: mail of 6 April 2022, and what else pins by GUP."""


def stranger_named(text: str) -> tuple[str, ...]:
    """The abilities of a comma-separated list, in the order of the table; `all`, `none`. UserMistake names the rest."""
    if text in ("all", "none"):
        return tuple(STRANGERS) if text == "all" else ()
    names = {one_of("stranger", name.strip(), ("all", "none", *STRANGERS)) for name in text.split(",")}
    if unknown := names - STRANGERS.keys():
        raise UserMistake(f"--stranger {text}: {sorted(unknown)[0]} stands alone; leave the others out")
    return tuple(name for name in STRANGERS if name in names)
