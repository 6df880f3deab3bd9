"""Descriptors that come over a socket."""

import os
import socket

from pagewarden.kernel.files import receive_fds


def test_a_descriptor_that_comes_goes_to_no_child() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, open("/dev/null") as file:
        socket.send_fds(theirs, [b"x"], [file.fileno(), file.fileno()])
        data, fds, said = receive_fds(ours, 8, 2)
        assert data == b"x" and len(fds) == 2 and not said & socket.MSG_CTRUNC
        for fd in fds:
            assert not os.get_inheritable(fd)
            os.close(fd)
        socket.send_fds(theirs, [b"y"], [file.fileno(), file.fileno()])
        data, fds, said = receive_fds(ours, 8, 1)
        assert len(fds) == 1 and said & socket.MSG_CTRUNC
        os.close(fds[0])
