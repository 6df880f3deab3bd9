"""Verbs in environments: one process that has loaded everything forks for each, sees how it ends and what it leaves.

`Cells()` starts that process; `cells.py` is it: a line of JSON for each job on standard input, one for its end on
standard output.
"""

import gc
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

PATIENCE = 120.0
"""Seconds that a verb may take; and those that what it started may take to end after it."""
AFTER = 60.0


@dataclass(frozen=True)
class Ended:
    """left: what was still there afterwards, files and processes; calls: of Python functions, if they were counted."""

    status: int
    out: str
    err: str
    left: list[str]
    calls: int
    seconds: float


class Cells:
    """The process that forks."""

    def __enter__(self) -> "Cells":
        command = [sys.executable, __file__]
        self._server = subprocess.Popen(command, stdin=-1, stdout=-1, text=True, start_new_session=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def run(
        self, environment: str, arguments: Sequence[str], fresh: bool = False, at: int = -1,
        number: int = signal.SIGINT, after: str = "",
    ) -> Ended:  # fmt: skip
        """fresh: in a new interpreter, which compiles nothing; at: after so many calls of Python functions (0: they are
        only counted), counted from the first of that name, this signal for all of its session, as a terminal sends
        Ctrl-C."""
        server = self._server
        assert server.stdin is not None and server.stdout is not None
        point = {"at": at, "number": number, "after": after}
        job = {"environment": environment, "arguments": list(arguments), "fresh": fresh, "point": point}
        print(json.dumps(job), file=server.stdin, flush=True)
        return Ended(**json.loads(server.stdout.readline()))


def lacking() -> str:
    """Why there are no mounts of one's own here; empty where there are."""
    tried = subprocess.run(
        ["unshare", *(() if os.geteuid() == 0 else ("-Ur",)), "-m", "true"], capture_output=True, text=True
    )
    return f"no mount namespace: {tried.stderr.strip()}" if tried.returncode else ""


def serve() -> None:
    """In that process: until standard input ends."""
    from environments import own_mounts
    from pagewarden.kernel.door import prctl

    prctl(PR_SET_CHILD_SUBREAPER, 1)  # whom a verb leaves behind comes here
    own_mounts()
    load()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        place = Path(tempfile.mkdtemp(prefix="pagewarden-cell-"))  # no TemporaryDirectory: children would remove it
        try:
            job = json.loads(line)
            with setting(job["environment"]) as group:
                ended = one(place, group, **job)
        finally:
            shutil.rmtree(place)
        print(json.dumps(asdict(ended)), file=answers, flush=True)


PR_SET_CHILD_SUBREAPER = 36


def load() -> None:
    """What every verb imports, compiles and tabulates: a verb in a cell has its own work left. Less of what takes long;
    the archive of kernels is not asked."""
    import pagewarden.cli.run_modes
    import pagewarden.studies.probe.isolation
    import pagewarden.studies.probe.room  # noqa: F401
    from commands import VERBS, WARM
    from pagewarden.cli import app
    from pagewarden.lab import fetch
    from pagewarden.studies.calibrate import prediction_runs
    from pagewarden.vocab import Unavailable

    def no_archive(*asked: object) -> list[str]:
        raise Unavailable("no archive is asked here", "look at what lies in the cache")

    fetch.available = no_archive  # type: ignore[assignment]
    prediction_runs.ROUNDS = 1
    prediction_runs.SIZES = prediction_runs.SIZES[:2]  # type: ignore[attr-defined, assignment]
    whole: Any = prediction_runs.predict_runs
    whole.__defaults__ = ("auto", None, 0.1, *whole.__defaults__[3:])
    for name in WARM:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            app(VERBS[name].arguments, standalone_mode=False)
    gc.freeze()  # what is here already is no child's to collect


@contextmanager
def setting(environment: str) -> Iterator[Path | None]:
    """The host is as the environment has it until the block ends; the group that the verb belongs into."""
    from environments import ENVIRONMENTS
    from groups import group

    wanted = ENVIRONMENTS[environment]
    with ExitStack() as undone:
        if wanted.sysctl is not None:
            file = Path("/proc/sys") / wanted.sysctl[0]
            undone.callback(file.write_text, file.read_text())
            file.write_text(wanted.sysctl[1])
        yield undone.enter_context(group(*wanted.group)) if wanted.group else None


def one(
    place: Path, group: Path | None, environment: str, arguments: list[str], fresh: bool, point: dict[str, Any]
) -> Ended:
    for name in ("home", "tmp", "work"):
        (place / name).mkdir()
    (place / "work" / "disk").touch()
    os.truncate(place / "work" / "disk", 1 << 30)
    place.chmod(0o755)
    arguments = [each.replace("PLACE", str(place / "work")) for each in arguments]
    out, err, count = os.pipe(), os.pipe(), os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        if group is not None:
            (group / "cgroup.procs").write_text("0")
        child(place, environment, arguments, fresh, point, (out[1], err[1], count[1]))
    for pipe in (out, err, count):
        os.close(pipe[1])
    texts = read_all([out[0], err[0], count[0]], pid, began + PATIENCE)
    status, left = ends(pid, began + PATIENCE)
    left += [str(path.relative_to(place)) for path in (place / "tmp").rglob("*") if path.name != "full"]
    left += [str(path) for path in Path("/dev/shm").iterdir()]
    for path in Path("/dev/shm").iterdir():
        path.unlink()
    return Ended(status, texts[0], texts[1], left, int(texts[2] or -1), time.monotonic() - began)


def read_all(fds: list[int], pid: int, until: float) -> list[str]:
    """All that is written to the pipes, until nobody holds them, or the verb has ended and nobody lets go of them."""
    found = dict.fromkeys(fds, b"")
    watch = os.pidfd_open(pid)
    with selectors.DefaultSelector() as selector:
        for fd in (*fds, watch):
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(1.0)
            if not ready and time.monotonic() > until:
                if watch not in selector.get_map():
                    break
                os.kill(pid, signal.SIGKILL)
            for key, _ in ready:
                part = os.read(key.fd, 1 << 16) if key.fd != watch else b""
                if part:
                    found[key.fd] += part
                    continue
                selector.unregister(key.fd)
                if key.fd == watch:
                    until = time.monotonic() + AFTER
    for fd in (*fds, watch):
        os.close(fd)
    return [found[fd].decode(errors="replace") for fd in fds]


def ends(pid: int, until: float) -> tuple[int, list[str]]:
    """The status of the verb, and the processes that are left after it."""
    _, status = os.waitpid(pid, 0)
    left, until = [], time.monotonic() + AFTER
    while True:
        try:
            found, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if found == 0 and time.monotonic() > until:
            for each in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                left.append("process " + Path(f"/proc/{each}/cmdline").read_text().replace("\0", " "))
                os.kill(int(each), signal.SIGKILL)
            until += AFTER
        if found == 0:
            time.sleep(0.005)
    return os.waitstatus_to_exitcode(status), left


def child(
    place: Path,
    environment: str,
    arguments: list[str],
    fresh: bool,
    point: dict[str, Any],
    pipes: tuple[int, int, int],
) -> NoReturn:
    from environments import ENVIRONMENTS
    from pagewarden.abi.confinement import CLONE_NEWNS
    from pagewarden.kernel.door import syscall

    try:
        os.setsid()
        syscall("unshare", CLONE_NEWNS)
        os.environ |= {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp")}
        os.environ.pop("XDG_CONFIG_HOME", None)  # the suite's own is not this user's
        tempfile.tempdir = None
        os.chdir("/")
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        os.dup2(pipes[0], 1)
        os.dup2(pipes[1], 2)
        counted = os.dup2(pipes[2], 100, inheritable=False) if point["at"] == 0 else -1
        os.closerange(3, 100)
        ENVIRONMENTS[environment].enter(place)
        if fresh:
            os.environ["NUMBA_DISABLE_JIT"] = "1"
            os.execv(sys.executable, [sys.executable, "-m", "pagewarden", *arguments])
        run(arguments, counted=counted, **point)
    except SystemExit as ended:
        finish(ended.code)
    except BaseException:
        traceback.print_exc()
    os._exit(99)


def finish(code: Any) -> NoReturn:
    """As the interpreter does at its end."""
    import atexit
    import threading

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        try:
            file.flush()
        except (OSError, ValueError):
            code = code or 120
    os._exit(code or 0)


def run(arguments: list[str], at: int, number: int, after: str, counted: int) -> None:
    from pagewarden.cli import main

    calls, begun, own = 0, not after, os.getpid()

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls, begun
        if os.getpid() != own:
            return  # a child of the verb: Ctrl-C comes to its parent first
        begun = begun or frame.f_code.co_name == after
        if event == "call" and begun:
            calls += 1
            if calls == at:
                os.killpg(0, number)

    sys.argv = ["pagewarden", *arguments]
    if at >= 0:
        sys.setprofile(count)
    try:
        main()
    finally:
        sys.setprofile(None)
        if counted >= 0:
            os.write(counted, str(calls).encode())


if __name__ == "__main__":
    serve()
