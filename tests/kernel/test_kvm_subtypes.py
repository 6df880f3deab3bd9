"""Memslots over memories of several kinds in one VM (anonymous, userfaultfd, guest_memfd): a guest moves bytes between
them, and each answers the host as it does in a VM of its own.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from guest_kit import PlainMemory
from pagewarden.kernel.kvm import Kvm, Vm
from pagewarden.kernel.kvm_x86 import KvmMachine, Slot
from pagewarden.law import policy_named
from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, PrivateMemory
from pagewarden.vocab import ExitKind

KINDS = {"uffd-window": "uffd-window", "guest-memfd": "guest-memfd-shared"}
"""Backings, and the policy of each."""
SIZE, STEP = 2 * PAGE_SIZE, 64 * PAGE_SIZE
END = bytes.fromhex("bf07000000b803000000ba00050000ef")  # the hypercall that ends a program, with 7
BYTES = b"moved by the guest"


@contextmanager
def memories(vm: Vm, kinds: list[str]) -> Iterator[dict[str, PrivateMemory]]:
    """The first page of each is shared, the second private where the kind tells pages apart."""
    with ExitStack() as opened:
        made = {}
        for kind in kinds:
            whole = kind == "guest-memfd"
            made[kind] = opened.enter_context(PrivateMemory(SIZE, kind, shared=whole, vm=vm.fd if whole else None))
            if not whole:
                made[kind].share(PageRange(0, 1))
        yield made


def moves(*pairs: tuple[int, int]) -> bytes:
    """From and to, as gpas: mov rsi, from; mov rdi, to; mov ecx, length; rep movsb."""
    code = b"".join(
        b"\x48\xbe" + source.to_bytes(8, "little") + b"\x48\xbf" + target.to_bytes(8, "little")
        + b"\xb9" + len(BYTES).to_bytes(4, "little") + b"\xf3\xa4"
        for source, target in pairs
    )  # fmt: skip
    return code + END


def run(vm: Vm, made: dict[str, PrivateMemory]) -> None:
    """The bytes behind the code go to the second page of the first memory, from there to the next, and on; and from
    each second page to the first of the same."""
    code = PlainMemory(PAGE_SIZE)
    places = [STEP * (1 + number) + PAGE_SIZE for number in range(len(made))]
    hops = list(zip([PAGE_SIZE - 64, *places], places, strict=False))
    code.populate(0, moves(*hops, *((place, place - PAGE_SIZE) for place in places)))
    code.populate(PAGE_SIZE - 64, BYTES)
    slots = [Slot(0, PAGE_SIZE, code.guest_address)]
    for place, memory in zip(places, made.values(), strict=True):
        file = memory.file if memory.backing == "guest-memfd" else -1
        slots.append(Slot(place - PAGE_SIZE, SIZE, memory.guest_address, file))
    with KvmMachine(vm, slots) as machine:
        machine.cpus[0].start(0)
        assert machine.cpus[0].run(lambda port, value: machine.cpus[0].stop()).kind is ExitKind.ENDED


def seen(memory: PrivateMemory) -> list[bytes | str]:
    """What the host gets of both pages: through the window, and from the file."""
    return [
        answer(lambda at=page * PAGE_SIZE, way=way: way(at))  # type: ignore[misc]
        for page in (0, 1)
        for way in (
            lambda at: memory.window.read(at, len(BYTES)),
            lambda at: os.pread(memory.file, len(BYTES), at),
        )
    ]


def answer(way: Callable[[], bytes]) -> bytes | str:
    try:
        return way()
    except PrivateAccess:
        return "private"
    except OSError as error:
        return os.strerror(error.errno or 0)


def test_each_answers_as_in_a_vm_of_its_own(vm: Vm) -> None:
    with memories(vm, list(KINDS)) as made:
        run(vm, made)
        together = {kind: seen(memory) for kind, memory in made.items()}
        made["uffd-window"].unshare(PageRange(0, 1))  # one converts, the others do not move
        after = {kind: seen(memory) for kind, memory in made.items()}
    for kind in KINDS:
        with Kvm() as kvm, kvm.create_vm() as alone, memories(alone, [kind]) as single:
            run(alone, single)
            assert seen(single[kind]) == together[kind], kind
    assert after == together | {"uffd-window": ["private", *together["uffd-window"][1:]]}
    assert together["uffd-window"][::2] == [BYTES, "private"]


@pytest.mark.parametrize("kind", KINDS)
def test_and_as_the_law_says_of_its_kind(vm: Vm, kind: str) -> None:
    with memories(vm, list(KINDS)) as made:
        run(vm, made)
        found = seen(made[kind])
    assert [each == BYTES for each in found[:2]] == [True, policy_named(KINDS[kind]).has("file-io")]
