"""Chromium without a window, over its debugging pipe: what a page draws, says and logs."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import F_DUPFD_CLOEXEC, fcntl
from pathlib import Path
from typing import Any

import pytest


class Browser:
    """One page at a time. `log` has every console message beside warnings, exception and failed load of it."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._rest, self._number = write, read, b"", 0
        self._session: str | None = None
        self.log: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        asked: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._write, json.dumps(asked).encode() + b"\0")
        while True:
            said = self._message()
            if said.get("id") == self._number:
                assert "error" not in said, said
                return said["result"]

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._read, 1 << 20)
            assert more, "chromium ended"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        said: dict[str, Any] = json.loads(text)
        match said.get("method", ""), said.get("params", {}):
            case ("Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded") as kind, what:
                if what.get("type") != "warning":  # of Vega-Lite, about a height that depends on the rows
                    self.log.append(f"{kind}: {json.dumps(what)[:600]}")
            case "Network.requestWillBeSent", what if not what["request"]["url"].startswith(("file:", "data:")):
                self.log.append(f"asks the network for {what['request']['url']}")
        return said

    def open(self, file: Path) -> None:
        """Load a page of ours and wait until it says that all is drawn, or something went wrong."""
        self.log.clear()
        self._call("Page.navigate", url=file.as_uri())
        while self._message().get("method") != "Page.loadEventFired":
            pass
        while not self.log and not self.value("'drawn' in document.documentElement.dataset"):
            pass

    def value(self, script: str) -> Any:
        """What an expression, or its promise, gives."""
        found = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def media(self, scheme: str, medium: str = "") -> None:
        """Dark or light; `print` for paper."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", media=medium, features=features)

    def picture(self, file: Path, width: int = 1100) -> None:
        """A PNG of the whole page."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def paper(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self._call("Page.printToPDF")["data"])


@contextmanager
def browser() -> Iterator[Browser]:
    """Skips without chromium, unless PAGEWARDEN_REQUIRE_LIVE says that it must be there."""
    program = shutil.which("chromium")
    if program is None:
        why = "no chromium here: apt install chromium"
        if os.environ.get("PAGEWARDEN_REQUIRE_LIVE") == "1":
            pytest.fail(why)
        pytest.skip(why)
    low_read, ours_write = os.pipe()
    ours_read, low_write = os.pipe()
    to_child, from_child = (fcntl(fd, F_DUPFD_CLOEXEC, 10) for fd in (low_read, low_write))
    os.close(low_read)
    os.close(low_write)

    def places() -> None:
        os.dup2(to_child, 3)
        os.dup2(from_child, 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             f"--user-data-dir={home}", "--remote-debugging-pipe"],
            preexec_fn=places, close_fds=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_child)
        os.close(from_child)
        try:
            yield Browser(ours_write, ours_read)
        finally:
            os.close(ours_write)  # it ends with its pipe
            os.close(ours_read)
            process.wait()
