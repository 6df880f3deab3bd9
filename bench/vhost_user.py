"""QEMU's storage daemon, the peer of bench/disk.py and bench/serve.py, and the front end that tests have, too.

A back end is made one whose guest bounces by offering VIRTIO_F_ACCESS_PLATFORM for it: Linux then takes buffers from
its DMA API, and QEMU tells a back end of the feature only where an IOMMU is between (hw/virtio/vhost.c,
vhost_dev_set_features). The daemon itself does not offer it (block/export/vhost-user-blk-server.c, vu_blk_get_features;
subprojects/libvhost-user, vu_get_features_exec), without which QEMU refuses iommu_platform=on
(hw/virtio/virtio-bus.c, virtio_bus_device_plugged).
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests" / "kits"))

from front_end import BackEndError, FrontEnd
from pagewarden.abi import vhost_user as abi
from pagewarden.abi.virtio import VIRTIO_F_ACCESS_PLATFORM

__all__ = ["BackEndError", "FrontEnd", "bouncing", "installed", "storage_daemon"]


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


@contextlib.contextmanager
def bouncing(path: Path) -> Iterator[Path]:
    """A socket for one front end, beside that of a back end, at which VIRTIO_F_ACCESS_PLATFORM is offered, too. All
    else is passed on; requests do not come by here."""
    beside = path.with_name(f"{path.name}.bouncing")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(beside))
        listener.listen()
        threading.Thread(target=_pass_on, args=(listener, path), daemon=True).start()
        yield beside


def _pass_on(listener: socket.socket, path: Path) -> None:
    front, _ = listener.accept()
    with front, socket.socket(socket.AF_UNIX) as back:
        back.connect(str(path))
        threading.Thread(target=_pass, args=(front, back), daemon=True).start()
        _pass(back, front, offering=True)


def _pass(source: socket.socket, target: socket.socket, offering: bool = False) -> None:
    """One direction, until its end: message by message, for descriptors belong to one."""
    with contextlib.suppress(OSError):
        while True:
            head, fds, _, _ = socket.recv_fds(source, abi.HEADER.size, abi.MEMORY_REGIONS)
            if not head:
                break
            request, _, size = abi.HEADER.unpack(head)
            payload = source.recv(size, socket.MSG_WAITALL) if size else b""
            if offering and request == abi.FrontRequest.GET_FEATURES:
                payload = abi.U64.pack(abi.U64.unpack(payload)[0] | 1 << VIRTIO_F_ACCESS_PLATFORM)
            socket.send_fds(target, [head + payload], fds)
            for fd in fds:
                os.close(fd)
        target.shutdown(socket.SHUT_RDWR)


def installed() -> bool:
    return shutil.which("qemu-storage-daemon") is not None
