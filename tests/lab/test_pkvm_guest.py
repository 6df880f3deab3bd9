"""The program of a protected guest is what its source says, and does what it is told: by an assembler and an emulator
that are not ours."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pagewarden.probe.pkvm import guest

BINUTILS = "aarch64-linux-gnu-"
BASE = 0x4000_0000
PAGE = BASE + 0x1000


def assembled(made: Path) -> bytes:
    if shutil.which(f"{BINUTILS}as") is None:
        pytest.skip("no assembler for arm64; apt-get install binutils-aarch64-linux-gnu")
    (made / "guest.s").write_text(guest.SOURCE)
    for command in (["as", "-o", "guest.o", "guest.s"], ["objcopy", "-O", "binary", "-j", ".text", "guest.o", "code"]):
        subprocess.run([BINUTILS + command[0], *command[1:]], cwd=made, check=True)
    return (made / "code").read_bytes()


def test_the_bytes_are_what_an_assembler_makes_of_the_source(tmp_path: Path) -> None:
    made = assembled(tmp_path)
    body = guest.CODE[: guest.TRAP].rstrip(b"\0")
    assert made[: len(body)] == body and made[guest.TRAP :] == guest.CODE[guest.TRAP :]
    padding = made[len(body) : guest.TRAP]
    assert not padding.replace(b"\x1f\x20\x03\xd5", b"").strip(b"\0"), "no-operations and zeroes"


class Emulated:
    """The program on an emulated CPU whose VMM is this test."""

    def __init__(self, *commands: tuple[int, int, int]) -> None:
        unicorn = pytest.importorskip("unicorn")
        from unicorn import arm64_const

        self._commands, self.answers, self.traps = list(commands), list[int](), list[int]()
        self.calls: list[tuple[int, int]] = []
        self.cpu = cpu = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self._registers = arm64_const.UC_ARM64_REG_X0, arm64_const.UC_ARM64_REG_X1
        self._pc = arm64_const.UC_ARM64_REG_PC
        for start, size in ((BASE, 0x4000), (guest.MAILBOX, 0x1000)):
            cpu.mem_map(start, size)
        cpu.mem_write(BASE, guest.CODE)
        cpu.hook_add(unicorn.UC_HOOK_MEM_READ, self._asked, begin=guest.WHAT, end=guest.WHAT)
        cpu.hook_add(unicorn.UC_HOOK_MEM_WRITE, self._said, begin=guest.ANSWER, end=guest.TRAPPED)
        cpu.hook_add(unicorn.UC_HOOK_INTR, self._called)
        cpu.emu_start(BASE, BASE + 0x3000, count=100_000)

    def _asked(self, cpu: object, access: int, address: int, size: int, value: int, _: object) -> None:
        assert size == 8
        if not self._commands:
            self.cpu.emu_stop()
            return
        words = self._commands.pop(0)
        self.cpu.mem_write(guest.WHAT, b"".join(word.to_bytes(8, "little") for word in words))

    def _said(self, cpu: object, access: int, address: int, size: int, value: int, _: object) -> None:
        {guest.ANSWER: self.answers, guest.TRAPPED: self.traps}[address].append(value)

    def _called(self, cpu: object, number: int, _: object) -> None:
        first, second = self._registers
        self.calls.append((self.cpu.reg_read(first), self.cpu.reg_read(second)))
        self.cpu.reg_write(first, 7)
        self.cpu.reg_write(self._pc, self.cpu.reg_read(self._pc) + 4)  # it stops at the instruction


def test_it_fills_loads_and_calls_as_it_is_told() -> None:
    ran = Emulated(
        (guest.FILL, PAGE, 0x1122334455667788), (guest.LOAD, PAGE + 4088, 0), (guest.CALL, PAGE, guest.SHARE)
    )  # fmt: skip
    assert ran.answers[1:] == [0x1122334455667788, 7] and ran.calls == [(guest.SHARE, PAGE)] and not ran.traps
    assert bytes(ran.cpu.mem_read(PAGE, 4096)) == (0x1122334455667788).to_bytes(8, "little") * 512
    assert bytes(ran.cpu.mem_read(PAGE + 4096, 8)) == bytes(8) and bytes(ran.cpu.mem_read(BASE, 8)) == guest.CODE[:8]
