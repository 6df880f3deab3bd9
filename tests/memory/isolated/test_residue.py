"""What one host side was given is not to be found in the next, which the same zygote forks."""

import os

import host_programs
from pagewarden.memory import PAGE_SIZE, PrivateMemory

PIECE = 16


def test_the_arguments_of_one_host_side_are_not_in_another() -> None:
    secret = os.urandom(PIECE)
    receive, transmit = os.pipe()
    first, second = (PrivateMemory(PAGE_SIZE, isolated=True) for _ in range(2))
    with first, second, open(receive, "rb"), open(transmit, "wb"):
        host = first.spawn(host_programs.hear_a_secret, secret * 2000)
        heard = host.receive(20)
        assert heard is not None and heard.value == PIECE * 2000
        host.kill()
        host = second.spawn(host_programs.search_itself, bytes(each ^ 1 for each in secret), fds=[receive, transmit])
        heard = host.receive(60)
        assert heard is not None and int(heard.data) > 100, heard
        assert heard.value == 0
        host.kill()
