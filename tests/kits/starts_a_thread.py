"""A module that starts a thread in every forked process: what a host side's room has no hold on."""

import os
import threading
import time

from pagewarden.memory.isolated.side import HostSide


def nothing(host: HostSide) -> None:
    host.report(0)


os.register_at_fork(after_in_child=lambda: threading.Thread(target=time.sleep, args=(3600,), daemon=True).start())
