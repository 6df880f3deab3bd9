"""Every verb where the host is short of something: a status that is true, one line that helps, never a traceback."""

import os
import pty
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest

from live import require
from waits import SOON, in_time

KITS = Path(__file__).parents[1] / "kits"
PAGEWARDEN = (sys.executable, "-m", "pagewarden")
CHECK = ("check", "--pages", "1", "--vcpus", "1", "--stranger", "strace", "--property")
HOLDS, FAILS = (*CHECK, "host-never-panics"), (*CHECK, "host-never-reads-private", "--policy", "memfd")
PROBE = ("probe", "--backing", "uffd-window", "--path", "preadv")
RUN = ("run", "--requests", "2", "--cpu", "unicorn")
QUICK = {
    "compare": (("compare",), 0),
    "law": (("law", "--op", "gup_pin"), 0),
    "list": (("list",), 0),
    "holds": (HOLDS, 0),
    "fails": (FAILS, 1),
}
"""Verbs that ask nothing of the kernel, and their answers."""
MIB = 1 << 20
Done = subprocess.CompletedProcess[str]


def limited(limit: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(limit, (value, value))


def ran(
    *command: str,
    before: Callable[[], None] | None = None,
    environment: Mapping[str, str] | None = None,
    **more: object,
) -> Done:
    settings: dict[str, object] = {"capture_output": True, "cwd": "/", "timeout": SOON, **more}
    kept = {name: os.environ[name] for name in ("PATH", "NUMBA_CACHE_DIR")}
    env = None if environment is None else {**kept, **environment}
    done: Done = subprocess.run(command, text=True, preexec_fn=before, env=env, **settings)  # type: ignore[call-overload]
    return done


def judged(done: Done, allowed: set[int]) -> None:
    """A status that is allowed; where it is 2, the last line says what and what to do, and nothing else is odd."""
    assert done.returncode in allowed, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr and "bug" not in done.stderr, done.stderr
    if done.returncode == 2:
        *before, last = done.stderr.splitlines()
        assert last.startswith("pagewarden: ") and "; " in last, done.stderr
        assert not [line for line in before if line.startswith("pagewarden:")]


def in_mounts(commands: str, *command: str, **more: object) -> Done:
    """In a mount namespace of its own; skipped where there is none to be had."""
    tried = ran("unshare", "-m", "true")
    require(tried.returncode == 0, f"no mount namespace here: {tried.stderr.strip()}")
    return ran("unshare", "-m", "sh", "-c", f'{commands} && exec "$@"', "sh", *command, **more)  # type: ignore[arg-type]


LIMITS = {
    "12 files": (resource.RLIMIT_NOFILE, 12),
    "no locked memory": (resource.RLIMIT_MEMLOCK, 0),
    "300 MiB of addresses": (resource.RLIMIT_AS, 300 * MIB),
    "80 MiB of data": (resource.RLIMIT_DATA, 80 * MIB),
    "files of 4 KiB": (resource.RLIMIT_FSIZE, 4096),
}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("verb", ["compare", "holds", "fails"])
def test_a_limit_is_never_an_answer(verb: str, limit: str) -> None:
    arguments, answer = QUICK[verb]
    judged(ran(*PAGEWARDEN, *arguments, before=limited(*LIMITS[limit])), {answer, 2})


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("arguments", [PROBE, RUN], ids=lambda arguments: arguments[0])
def test_a_limit_on_what_needs_the_kernel(arguments: tuple[str, ...], limit: str) -> None:
    judged(ran(*PAGEWARDEN, *arguments, before=limited(*LIMITS[limit])), {0, 2})


def test_an_emulator_without_memory_is_no_leak() -> None:
    """Unicorn ends the process with exit(1) when it gets no room for its translations."""
    done = ran(*PAGEWARDEN, *RUN, before=limited(resource.RLIMIT_AS, 700 * MIB))
    judged(done, {0, 2})
    assert "not installed" not in done.stderr


@pytest.mark.parametrize("options", [(), ("--json",), ("--op", "gup_pin")], ids=["long", "json", "short"])
def test_a_full_disk(options: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = ran(*PAGEWARDEN, "law", *options, stdout=full, stderr=-1, capture_output=False)
    judged(done, {2})
    assert done.stderr.startswith("pagewarden: standard output: No space left on device; ")


def test_a_full_directory_for_temporary_files(tmp_path: Path) -> None:
    mounts = f"mount -t tmpfs -o size=16k none {tmp_path}"
    judged(in_mounts(mounts, *PAGEWARDEN, *RUN, environment={"TMPDIR": str(tmp_path), "HOME": "/root"}), {2})
    trace = (*PAGEWARDEN, *FAILS, "--trace", str(tmp_path / "trace"))
    judged(in_mounts(f"{mounts} && head -c 16k /dev/zero > {tmp_path}/full", *trace), {2})


@pytest.mark.parametrize("target", ["/nonexistent/trace", "/", "/dev/full"])
def test_a_trace_that_cannot_be_written(target: str) -> None:
    judged(ran(*PAGEWARDEN, *FAILS, "--trace", target), {2})


@pytest.mark.parametrize(
    "arguments",
    [QUICK["compare"][0], HOLDS, RUN, PROBE, (*PROBE[:-1], "load")],
    ids=["compare", "check", "run", "probe-of-files", "probe"],
)
def test_without_proc(arguments: tuple[str, ...]) -> None:
    done = in_mounts("mount -t tmpfs none /proc", *PAGEWARDEN, *arguments)
    judged(done, {0} if arguments in (QUICK["compare"][0], HOLDS) else {0, 2})


@pytest.mark.parametrize("verb", [*QUICK, "probe"])
def test_somebody_without_a_home(verb: str) -> None:
    """No HOME, no entry in the password file, and nothing of the installation can be written."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    arguments, answer = QUICK.get(verb, (PROBE, 0))
    somebody = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups")
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")  # only so that it can see this tree
    judged(ran(*somebody, *reads, *PAGEWARDEN, *arguments, environment={"NUMBA_DISABLE_JIT": "1"}), {answer})


CALLS = (
    "userfaultfd", "memfd_secret", "memfd_create", "perf_event_open", "io_uring_setup", "process_vm_readv",
    "pidfd_open", "splice", "ptrace", "unshare",
)  # fmt: skip


@pytest.mark.parametrize("code", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize("call", CALLS)
def test_a_system_call_that_is_denied(call: str, code: str) -> None:
    arguments = PROBE if call not in ("memfd_create", "memfd_secret") else RUN
    judged(ran(sys.executable, str(KITS / "denied.py"), code, call, *arguments), {0, 2})


INTERRUPTED = {
    "compare": ("compare",),
    "check": HOLDS,
    "matrix": ("check", "--matrix", "--vcpus", "1", "--stranger", "strace"),
    "probe": PROBE,
}


@pytest.mark.parametrize("verb", INTERRUPTED)
def test_ctrl_c_at_ten_points_of_progress(verb: str) -> None:
    program = (sys.executable, str(KITS / "interrupted.py"))
    for _ in range(2):  # the first may compile, which the runs that count do not
        whole = ran(*program, "0", *INTERRUPTED[verb], start_new_session=True)
        assert whole.returncode == 0, whole.stderr
    calls = int(whole.stderr.split()[-1])
    for part in range(1, 11 if verb == "compare" else 4):
        at = calls * part // 11
        with subprocess.Popen(
            [*program, str(at), *INTERRUPTED[verb]], start_new_session=True, stdout=-1, stderr=-1, text=True
        ) as process:
            _, said = process.communicate(timeout=SOON)
            assert process.returncode == 130 and "Traceback" not in said and "pagewarden:" not in said, (at, said)
        assert in_time(partial(nobody_is_of, process.pid)), "left in its session"


def nobody_is_of(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_workers_die_with_the_check_that_is_killed() -> None:
    """kill -9: their standard error, which this end reads, closes when the last of them is gone."""
    with subprocess.Popen(
        [*PAGEWARDEN, *INTERRUPTED["matrix"]], stdout=-3, stderr=-1, start_new_session=True
    ) as process:
        while len(children(process.pid)) < 2:
            assert process.poll() is None, "it ended before it had workers"
        process.kill()
        process.communicate(timeout=SOON)


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_closed_standard_files() -> None:
    for closed in (">&-", "<&- >&- 2>&-"):
        done = ran("sh", "-c", f'exec "$@" {closed}', "sh", *PAGEWARDEN, *FAILS)
        assert done.returncode == 1, (closed, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_reader_that_went_away() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    done = ran(*PAGEWARDEN, "law", stdout=writes, stderr=-1, capture_output=False)
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_of_60_columns() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*PAGEWARDEN, "compare"], stdout=theirs, stderr=theirs, env={**os.environ, "COLUMNS": "60"}, text=True
    ) as process:
        os.close(theirs)
        said = b""
        while part := read(ours):
            said += part
    os.close(ours)
    assert process.returncode == 0 and b"Traceback" not in said and b"window" in said


def read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # EIO: the other end is closed
        return b""
