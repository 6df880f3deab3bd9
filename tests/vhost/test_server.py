"""A server at its socket."""

import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

from front_end import PATIENCE
from pagewarden.kernel.listening import listening
from pagewarden.vhost.server import Server
from served_rig import ServerThread

CONNECT = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])"


def test_a_front_end_that_ended_before_it_was_heard_is_not_waited_for(tmp_path: Path) -> None:
    disk, place = tmp_path / "disk", tmp_path / "socket"
    disk.write_bytes(bytes(1 << 16))
    with closing(ServerThread(disk)) as made, listening(place, None) as listener:
        subprocess.run([sys.executable, "-c", CONNECT, str(place)], check=True)
        server = Server(listener, made.host, made.regions, made.said.append)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive() and not made.said
