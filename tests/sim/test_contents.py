"""Bytes on the machine: who sees them, what is lost, moved, swapped and scrubbed."""

import pytest

from pagewarden.law import EVERY, POLICIES, Op, Outcome, Owner, Policy, policy_named
from pagewarden.port import Memory
from pagewarden.sim import Contents, Machine, ModelMemory
from pagewarden.vocab import PageRange, PrivateAccess, Refused
from statements import AGAIN, DONATED, LET_GO

HYBRID = POLICIES["hybrid"]
CANARY = bytes(range(256)) * 16


SHUT = [name for name, policy in EVERY.items() if policy.guard in ("stage-1", "stage-2") and not policy.has("fixed")]


@pytest.mark.parametrize("name", SHUT)
def test_the_host_sees_nothing_and_nothing_is_lost(name: str) -> None:
    policy = policy_named(name)
    memory = ModelMemory(16 << 12, policy)
    assert isinstance(memory, Memory)
    memory.private_write(5 << 12, CANARY)
    with pytest.raises(PrivateAccess) as refusal:
        memory.window.read((5 << 12) + 7, 100)
    assert refusal.value.offset == 5 << 12
    with pytest.raises(PrivateAccess):
        memory.window.write(5 << 12, b"x")
    assert memory.private_read(5 << 12, 4096) == CANARY
    memory.share(PageRange(4, 7))
    kept = policy.has("in-place")
    assert (memory.window.read(5 << 12, 4096) == CANARY) == kept
    memory.window.write((5 << 12) + 1, b"host")
    memory.unshare(PageRange(4, 7))
    assert (memory.private_read((5 << 12) + 1, 4) == b"host") == kept
    with pytest.raises(PrivateAccess):
        memory.window.read(5 << 12, 1)


@pytest.mark.parametrize("name", ["guest-memfd", "patch-v5"])
def test_the_host_sees_the_other_memory_while_a_page_is_private(name: str) -> None:
    memory = ModelMemory(4 << 12, policy_named(name))
    memory.private_write(0, CANARY)
    assert memory.window.read(0, 4096) == bytes(4096)
    memory.window.write(0, b"beside")
    assert memory.private_read(0, 4096) == CANARY


def test_plain_memfd_leaks() -> None:
    memory = ModelMemory(4 << 12, POLICIES["memfd"])
    memory.private_write(0, CANARY)
    assert memory.window.read(0, 4096) == CANARY


def test_conversion_is_all_or_nothing_and_names_the_page() -> None:
    memory = ModelMemory(8 << 12, HYBRID)
    memory.share(PageRange(0, 8))
    memory.contents.apply(Op.FD_GET, PageRange(6, 7))
    with pytest.raises(Refused) as refusal:
        memory.unshare(PageRange(0, 8))
    assert refusal.value.offset == 6 << 12
    assert all(memory.is_shared(page) for page in range(8))


def _private(policy: Policy, *events: Op) -> Contents:
    contents = Contents(Machine(policy, 4, pool_pages=0), seed=1)
    for op in DONATED:
        assert contents.apply(op, PageRange(0, 1))[0] is Outcome.DONE
    contents.write(Op.GUEST_STORE, 0, CANARY)
    for op in events:
        assert contents.apply(op, PageRange(0, 1))[0] is Outcome.DONE, op
    return contents


@pytest.mark.parametrize(
    "move", [(Op.MIGRATE_BEGIN, Op.MIGRATE_COPY, Op.MIGRATE_COMMIT), (Op.SWAP_OUT, Op.SWAP_IN)], ids=["migrate", "swap"]
)
def test_moving_a_page_keeps_its_bytes_and_junks_its_frame(move: tuple[Op, ...]) -> None:
    contents = _private(HYBRID, *LET_GO, *move, *AGAIN)
    assert contents.read(Op.GUEST_LOAD, 0, 4096) == CANARY
    assert contents.freed and all(CANARY[:16] not in frame for frame in contents.freed)


def test_swap_copies_of_hybrid_are_opaque_and_an_old_one_is_refused() -> None:
    contents = _private(HYBRID, *LET_GO, Op.SWAP_OUT)
    assert CANARY[:16] not in contents.read(Op.SWAP_READ, 0, 4096)
    for op in (Op.SWAP_IN, *AGAIN):
        contents.apply(op, PageRange(0, 1))
    contents.write(Op.GUEST_STORE, 0, b"newer")
    for op in (*LET_GO, Op.SWAP_OUT):
        contents.apply(op, PageRange(0, 1))
    assert contents.apply(Op.SWAP_IN_STALE, PageRange(0, 1))[0] is Outcome.EBADMSG
    assert contents.apply(Op.SWAP_IN, PageRange(0, 1))[0] is Outcome.DONE
    assert contents.peek(0)[:5] == b"newer"


def test_without_freshness_an_old_copy_comes_back() -> None:
    contents = _private(HYBRID.without("swap-fresh"), *LET_GO, Op.SWAP_OUT, Op.SWAP_IN, *AGAIN)
    contents.write(Op.GUEST_STORE, 0, b"newer")
    for op in (*LET_GO, Op.SWAP_OUT, Op.SWAP_IN_STALE):
        assert contents.apply(op, PageRange(0, 1))[0] is Outcome.DONE
    assert contents.peek(0) == CANARY


def test_a_pin_on_a_replaced_page_reads_what_was_shared_then() -> None:
    policy = policy_named("uffd-window+isolated")
    contents = _private(policy, Op.SHARE, Op.HOST_MAP, Op.GUP_PIN)
    for op in (Op.UNSHARE_BEGIN, Op.HOST_ZAP, Op.HOST_TLBI, Op.UNSHARE_COMMIT):
        contents.apply(op, PageRange(0, 1))
    contents.write(Op.GUEST_STORE, 0, b"secret since")
    assert contents.read(Op.KMAP_READ, 0, 4096) == CANARY
    assert contents.read(Op.GUEST_LOAD, 0, 12) == b"secret since"


@pytest.mark.parametrize("name", ["hybrid", "memfd"])
def test_teardown_scrubs_where_the_policy_says(name: str) -> None:
    contents = _private(policy_named(name), *LET_GO, Op.RECLAIM)
    assert contents.machine.page(0).owner is Owner.HOST
    assert (contents.peek(0) == CANARY) == (name == "memfd")
