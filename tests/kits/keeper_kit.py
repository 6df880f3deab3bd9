"""A keeper in a process of its own, for the VMMs of plain_vmm."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from verbs import validate

PAGES = 200
"""Of the snapshot."""


class RunningKeeper:
    def __init__(self, folder: Path, *words: Any, terminal: tuple[int, int] | None = None) -> None:
        """terminal: both ends of one, for standard error."""
        self.socket, self.events = folder / "socket", folder / "events"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pagewarden", "keep", "--socket", self.socket, "--json-events", self.events,
             "--json", "--snapshot", folder / "mem", *map(str, words)],
            stdout=subprocess.PIPE, stderr=terminal[1] if terminal else subprocess.PIPE, text=True,
        )  # fmt: skip
        said = os.read(terminal[0], 1 << 16).decode() if terminal else self.process.stderr.readline()  # type: ignore[union-attr]
        assert "keeping" in said

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.events.read_text().splitlines()] if self.events.exists() else []

    def heard(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """So many of these events, once they have happened."""
        while len(found := [each for each in self.told() if each["event"] == event]) < count:
            assert self.process.poll() is None, self.process.communicate()
        return found

    def end(self) -> dict[str, Any]:
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate()
        assert self.process.returncode == 0 and not err
        document: dict[str, Any] = json.loads(out)
        validate("keep", document)
        assert document["over_time"][-1][1:] == [0, document["faults"]]
        return document


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
