"""`pagewarden migrate`: two processes, a network address between them, and a document from each."""

import json
import subprocess
import sys
from pathlib import Path

from live import require
from verbs import Verb, validate

COMMAND = [sys.executable, "-m", "pagewarden", "migrate"]


def test_a_guest_goes_by_tcp(tmp_path: Path) -> None:
    words = ["--key", "key", "--disk", "disk", "--requests", "40", "--json"]
    receive = [*COMMAND, "receive", "--at", "127.0.0.1:0", "--tickets", "tickets", "--verify", *words]
    with subprocess.Popen(receive, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as there:
        assert there.stdout is not None and there.stderr is not None
        said = there.stderr.readline()
        require("waiting" in said, said)
        send = [*COMMAND, "send", "--to", said.split()[-1], *words]
        (tmp_path / "other").write_bytes(bytes(32))
        wrong = subprocess.run([*send, "--key", "other"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert wrong.returncode == 2 and "did not move: " in wrong.stderr and wrong.stderr.count("\n") == 1
        assert "another" in wrong.stderr and "another key" in there.stderr.readline()
        (tmp_path / "disk").write_bytes(bytes((tmp_path / "disk").stat().st_size))  # it ran to its end there
        drawn = [*send, "--html", "page.html"]
        here = subprocess.run(drawn, cwd=tmp_path, capture_output=True, text=True, check=False)
        documents = [json.loads(text) for text in (wrong.stdout, here.stdout, there.stdout.read())]
        assert (here.returncode, here.stderr, there.wait(), there.stderr.read()) == (0, "", 0, "")
    for document in documents:
        validate("migrate", document)
    stayed, one, other = documents
    assert not stayed["moved"] and not stayed["good"] and stayed["run"]["requests"] == 40
    assert one["moved"] and other["moved"] and (one["side"], other["side"]) == ("source", "destination")
    assert f"The guest went with {one['pages']:,} pages" in (tmp_path / "page.html").read_text()
    assert one["downtime_s"] > 0 and one["run"]["requests"] + other["run"]["requests"] == 40
    assert one["run"]["sight"]["leaks"] == other["run"]["sight"]["leaks"] == other["run"]["differs"] == 0
    assert one["run"]["sight"]["whose"] == "this process"  # with what had been the warden's own view


def test_what_is_wrong_is_said_in_a_line(verb: Verb, tmp_path: Path) -> None:
    key, disk = tmp_path / "key", tmp_path / "disk"
    words = ("--key", str(key), "--disk", str(disk))
    assert "there is no key" in verb("migrate", "send", "--to", f"{tmp_path}/none", *words, code=2).stderr
    key.write_bytes(bytes(31))
    assert "32 bytes, not 31" in verb("migrate", "send", "--to", f"{tmp_path}/none", *words, code=2).stderr
    key.write_bytes(bytes(32))
    assert "No such file" in verb("migrate", "send", "--to", f"{tmp_path}/none", *words, code=2).stderr
    disk.write_bytes(bytes(16 << 20))
    for where, why in (
        (f"{tmp_path}/none", "nobody answers"), ("127.0.0.1:1", "nobody answers"), ("127.0.0.1:70000", "HOST:PORT"),
        ("[::1]:x", "HOST:PORT"),
    ):  # fmt: skip
        said = verb("migrate", "send", "--to", where, *words, "--requests", "20", code=2).stderr
        assert why in said and said.count("\n") == 1
    tickets = ("--tickets", str(tmp_path / "tickets"))
    for where in ("192.0.2.1:80", "127.0.0.1:99999", f"{tmp_path}/no/socket"):
        said = verb("migrate", "receive", "--at", where, *tickets, *words, code=2).stderr
        assert where in said and said.count("\n") == 1
