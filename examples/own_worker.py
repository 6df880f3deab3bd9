"""A worker that nobody trusts carries a document in and its signature out. It has two files, and not the key."""

import hashlib
import hmac
import tempfile

from pagewarden.memory import PAGE_SIZE, HostSide, PageRange, PrivateAccess, PrivateMemory

KEY, TEXT, SIGNATURE = 0, PAGE_SIZE, 2 * PAGE_SIZE


def carry(host: HostSide, source: int, target: int) -> None:
    """The worker; it tries the key first."""
    try:
        host.pwrite_to(target, 0, [(KEY, 32)])
    except PrivateAccess:
        host.report(host.pread_from(source, 0, [(TEXT, PAGE_SIZE)]))
    host.listen()
    host.pwrite_to(target, 0, [(SIGNATURE, 32)])


def main() -> None:
    """The warden's side, which signs."""
    with tempfile.TemporaryFile(buffering=0) as document, tempfile.TemporaryFile() as signed:
        document.write(b"I owe you a page")
        with PrivateMemory(16 * PAGE_SIZE, isolated=True) as mem:
            mem.populate(KEY, b"secret")
            mem.share(PageRange.covering(TEXT, PAGE_SIZE))
            worker = mem.spawn(carry, document.fileno(), signed.fileno(), fds=(document.fileno(), signed.fileno()))
            carried = worker.receive(20)
            assert carried is not None
            mem.unshare(PageRange.covering(TEXT, PAGE_SIZE))  # nobody changes it now
            text, key = mem.private_read(TEXT, carried.value), mem.private_read(KEY, 6)
            mem.private_write(SIGNATURE, hmac.digest(key, text, hashlib.sha256))
            mem.share(PageRange.covering(SIGNATURE, 32))
            worker.tell(0)
            print(f"{text.decode()!r} is signed, the worker ended with status {worker.wait(20)}")
        print(f"in the file: {signed.read().hex()}")


if __name__ == "__main__":
    import own_worker  # the worker's process imports its function by the name of this file

    own_worker.main()
