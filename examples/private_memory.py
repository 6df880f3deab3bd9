"""Private memory in your own program: the host reads, and writes to disk, what is shared, and nothing else.

python examples/private_memory.py
"""

import tempfile

from pagewarden.memory import PAGE_SIZE, PageRange, PrivateAccess, PrivateMemory

with PrivateMemory(16 * PAGE_SIZE) as mem:
    print(f"backing {mem.backing}: {mem.why}")
    mem.populate(0, b"a payload")  # before the guest runs
    try:
        mem.window.read(0, 9)
    except PrivateAccess as refused:
        print(f"private: the host may not read byte {refused.offset}")

    mem.share(PageRange(0, 1))
    print(f"shared: the host reads {mem.window.read(0, 9)!r}")
    with tempfile.TemporaryFile() as disk:
        moved = mem.window.pwrite_to(disk.fileno(), 0, [(0, 9)])  # from the window, without a copy in this process
        print(f"{moved} bytes went to the file")

    mem.unshare(PageRange(0, 1))  # in place: the contents stay
    assert mem.private_read(0, 9) == b"a payload"
    print(f"private again; shared pages: {list(mem.shared_runs())}")
