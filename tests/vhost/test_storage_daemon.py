"""The words of qemu-storage-daemon, as QEMU's own test of a vhost-user-blk back end has them."""

import pytest

from pagewarden.vhost.storage_daemon import block_words
from pagewarden.vocab import UserMistake

FILE = "driver=file,node-name=disk0,filename=qtest.a,,b"
EXPORT = "type=vhost-user-blk,id=disk0,addr.type=fd,addr.str=3,node-name=disk0,writable=on,num-queues=8"


def test_the_words_of_qemus_test() -> None:
    more = "driver=file,node-name=disk1,filename=other,read-only=on"
    unix = "vhost-user-blk,id=disk1,addr.type=unix,addr.path=/run/s,node-name=disk1"
    assert block_words([FILE, more], [EXPORT, unix]) == [
        ["--fd", "3", "--disk", "qtest.a,b", "--queues", "8"],
        ["--socket", "/run/s", "--disk", "other", "--queues", "1", "--readonly"],
    ]


@pytest.mark.parametrize(
    ("file", "export", "why"),
    [
        (FILE.replace("driver=file", "driver=qcow2"), EXPORT, "raw"),
        (FILE + ",throttle=1", EXPORT, "throttle is not served"),
        (FILE, EXPORT.replace("vhost-user-blk", "nbd"), "type=vhost-user-blk"),
        (FILE, EXPORT.replace("node-name=disk0", "node-name=disk9"), "node-name of a --blockdev"),
        (FILE, EXPORT.replace("addr.type=fd", "addr.type=inet"), "addr.type=unix"),
        (FILE, EXPORT + ",iothread=t", "iothread is not served"),
    ],
)
def test_what_is_not_served_is_said(file: str, export: str, why: str) -> None:
    with pytest.raises(UserMistake, match=why):
        block_words([file], [export])
