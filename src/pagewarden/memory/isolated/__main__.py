"""The zygote as a process: `python -m pagewarden.memory.isolated FD`, FD the warden's end of its control socket."""

import socket
import sys
from contextlib import suppress

from pagewarden.memory.isolated.zygote import serve

with socket.socket(fileno=int(sys.argv[1])) as end, suppress(BrokenPipeError):
    serve(end)
