"""QEMU's storage daemon, the peer of bench/disk.py and bench/serve.py, and the front end that tests have, too."""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "kits"))

from front_end import BackEndError, FrontEnd

__all__ = ["BackEndError", "FrontEnd", "installed", "storage_daemon"]


@contextlib.contextmanager
def storage_daemon(file: Path, direct: bool, aio: str = "io_uring", patience: float = 10.0) -> Iterator[Path]:
    """QEMU's storage daemon with a raw file; the socket of its vhost-user-blk export."""
    with tempfile.TemporaryDirectory(prefix="vhost-user-") as place:
        path = Path(place) / "socket"
        cache = f"cache.direct={'on' if direct else 'off'},aio={aio if direct or aio != 'native' else 'threads'}"
        daemon = subprocess.Popen(
            ["qemu-storage-daemon", "--blockdev", f"driver=file,node-name=disk,filename={file},{cache}", "--export",
             f"vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={path},writable=on"],
            stderr=subprocess.PIPE, text=True)  # fmt: skip
        try:
            end = time.monotonic() + patience
            while not path.exists():
                if daemon.poll() is not None or time.monotonic() > end:
                    daemon.kill()
                    raise BackEndError(f"qemu-storage-daemon: {daemon.communicate()[1].strip() or 'no socket in time'}")
                time.sleep(0.01)
            yield path
        finally:
            daemon.terminate()
            daemon.communicate()


def installed() -> bool:
    return shutil.which("qemu-storage-daemon") is not None
