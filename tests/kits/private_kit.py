"""Private memory on every backing that this host has, and what is asked of it."""

import errno

from pagewarden.memory import PAGE_SIZE, PrivateAccess, PrivateMemory

PAGES = 16
CONVERTING = ["uffd-window", "memfd-secret", "memfd"]
GUARDED = ["uffd-window", "uffd-rwp", "memfd-secret"]


def made(backing: str, size: int = PAGES * PAGE_SIZE, **options: bool) -> PrivateMemory:
    return PrivateMemory(size, backing, **options)  # type: ignore[arg-type]  # options are the keyword-only flags


def state(mem: PrivateMemory) -> list[bool]:
    return [mem.is_shared(page) for page in range(PAGES)]


def answers(mem: PrivateMemory) -> list[bool]:
    """Which pages the window answers for: the kernel's word, not the library's."""
    found = []
    for page in range(PAGES):
        try:
            mem.window.read(page * PAGE_SIZE, 1)
            found.append(True)
        except PrivateAccess as refusal:
            assert refusal.errno == errno.EFAULT and refusal.offset == page * PAGE_SIZE
            found.append(False)
    return found


def marked(mem: PrivateMemory) -> bytes:
    data = b"".join(bytes([page + 1]) * PAGE_SIZE for page in range(PAGES))
    mem.populate(0, data)
    return data
