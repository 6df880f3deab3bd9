"""`pagewarden serve`: how it ends, and what it says of what cannot be."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from pagewarden.memory import PrivateMemory
from pagewarden.vhost.blk import opened_disk
from pagewarden.virtio.disk import Disk
from pagewarden.vocab import UserMistake
from served_rig import MEMORY, ServedRig, opened_image
from verbs import Verb
from virtio_kit import IN, OK

ROOT = Path(__file__).parents[2]
CONNECT = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(1 << 16))
    return path


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGINT", "front end"])
def test_it_ends_with_status_0_and_a_document(disk: Path, tmp_path: Path, ending: str) -> None:
    place = tmp_path / "socket"
    words = [sys.executable, "-m", "pagewarden", "serve", "blk", "--socket", str(place), "--disk", str(disk), "--json",
             "--mode", "open", "--json-events", str(tmp_path / "events")]  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "serving" in process.stderr.readline()
        if ending == "front end":
            subprocess.run([sys.executable, "-c", CONNECT, str(place)], check=True)
        else:
            process.send_signal(getattr(signal, ending))
        out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    document = json.loads(out)
    jsonschema.validate(document, json.loads((ROOT / "docs" / "schema" / "serve.json").read_text()))
    assert document["mode"] == "open" and document["requests"] == 0
    assert document["over_time"][-1][1:] == [0, 0]
    assert not place.exists()
    first, *_ = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert first["event"] == "said" and first["what"].startswith("serving") and first["time"] > 0


def test_a_line_on_a_terminal_says_what_is_done_while_it_is(disk: Path, tmp_path: Path) -> None:
    """What was said before stays above it. (Where nobody looks there is none, as the test before this one sees.)"""
    place, (ours, theirs) = tmp_path / "socket", os.openpty()
    words = [sys.executable, "-m", "pagewarden", "serve", "blk", "--socket", str(place), "--disk", str(disk), "--mode",
             "open"]  # fmt: skip
    with (
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs, text=True) as process,
        PrivateMemory(MEMORY, "memfd", shared=True) as memory,
        opened_image(disk) as fd,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        os.close(theirs)
        shown = os.read(ours, 1 << 16)
        while b"serving" not in shown:
            shown += os.read(ours, 1 << 16)
        connection.connect(str(place))
        rig = ServedRig(memory, connection, Disk(fd))
        said = rb"\r\x1b\[K[1-9][0-9,]* requests/s, open pages 2,048, at most 2,048; refused 0"
        while not re.search(said, shown):  # a line a second
            assert rig.do(IN, 0, into=512)[0] == OK
            shown += os.read(ours, 1 << 16)
        rig.front.close()
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate()
    os.close(ours)
    assert process.returncode == 0 and re.search("served [1-9][0-9,]* requests", out)
    assert re.fullmatch(rb"\r\x1b\[Kpagewarden: serving [^\r]+\r\n(\r\x1b\[K[^\r\n]+)+", shown)


def test_two_guests_share_a_disk_only_to_read_it(verb: Verb, disk: Path, tmp_path: Path) -> None:
    """By another name, too; and when the first has ended the disk is free."""
    (tmp_path / "other").symlink_to(disk)
    second = ("serve", "blk", "--disk", str(tmp_path / "other"), "--socket", str(tmp_path / "second"))
    words = [sys.executable, "-m", "pagewarden", "serve", "blk", "--socket", str(tmp_path / "first"), "--disk",
             str(disk), "--mode", "open"]  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None and "serving" in first.stderr.readline()
        for more in ((), ("--readonly",)):
            answer = verb(*second, *more, code=2)
            assert f"{tmp_path / 'other'} is in use as a disk by process {first.pid} (" in answer.stderr
            assert answer.stderr.count("\n") == 1 and not (tmp_path / "second").exists()
        first.terminate()
    told = pytest.raises(UserMistake, match="in use as a disk by this very process")
    with opened_disk(disk, True), opened_disk(tmp_path / "other", True), told, opened_disk(disk, False):
        pass
    with opened_disk(disk, False):
        pass


def test_what_cannot_be_served_is_said_in_a_line(verb: Verb, disk: Path, tmp_path: Path) -> None:
    place = tmp_path / "socket"
    (tmp_path / "qcow2").write_bytes(b"QFI\xfb" + bytes(1 << 16))
    (tmp_path / "empty").touch()

    def said(*words: str) -> str:
        answer = verb("serve", "blk", *words, code=2)
        assert answer.stderr.count("\n") == 1 and not answer.stdout
        return answer.stderr

    at = ("--socket", str(place))
    assert "qemu-img convert -O raw" in said("--disk", str(tmp_path / "qcow2"), *at)
    assert "not even one sector" in said("--disk", str(tmp_path / "empty"), *at)
    assert "No such file" in said("--disk", str(tmp_path / "none"), *at)
    assert "neither a file" in said("--disk", "/dev/null", *at)
    assert "--socket PATH, or --fd N" in said("--disk", str(disk))
    assert "listens" in said("--disk", str(disk), "--fd", "0")
    assert "No such file" in said("--disk", str(disk), "--socket", str(tmp_path / "no" / "socket"))
    assert "--mode what" in said("--disk", str(disk), *at, "--mode", "what")
    assert "expected 1 to 16" in said("--disk", str(disk), *at, "--queues", "17")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(place))
        other.listen()
        assert "somebody listens there" in said("--disk", str(disk), *at)
    assert os.path.exists(place), "another's socket was removed"
