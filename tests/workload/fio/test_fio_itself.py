"""Where fio is installed: its options are known, and its own log and report have the same totals."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fio_jobs import FIO, job, same
from live import require
from pagewarden.workload import load
from pagewarden.workload.fio.options import known

COUNTED = [  # jobs of which fio's own totals say everything: the reads, the writes, the bytes
    "rw=read bs=4k size=1m number_ios=10 loops=2",
    "rw=randread bs=4k size=10k loops=1000",
    "rw=read bs=64k size=1m filename=f1 filename=f2 filename=f3",
    "rw=read bs=4k size=1m filename=a:b",
    "rw=read bs=4k size=1m nrfiles=3",
    "rw=read bs=4k filesize=1m nrfiles=3",
    "rw=read bs=4k filesize=1m size=2m nrfiles=4",
    "rw=read bs=4k size=1m io_size=3m loops=2",
    "rw=read bs=4k size=1m io_size=100k nrfiles=4",
    "rw=read bs=4k size=1m io_size=64k loops=10",
    "rw=read bs=1,1m size=1g io_size=1 loops=10",
    "rw=read bs=4k size=1m io_size=3m loops=5",
    "rw=read bs=4k size=1m io_size=1500k loops=2",
    "rw=read bs=4k size=1m io_size=64k number_ios=5 loops=3",
    "rw=read bs=4k size=1m io_size=64k loops=3 nrfiles=2",
    "rw=randread bs=4k size=1m io_size=3m loops=5",
    "rw=randread bs=4k size=1m io_size=3m loops=5 norandommap",
    "rw=read:4k bs=8k size=1m loops=3",
    "rw=read:4k bs=8k size=512k",
    "rw=read:17k bs=256k size=100m",
    "rw=read:4k bs=8k size=1m io_size=2m",
    "rw=read:4k bs=8k size=1m nrfiles=2",
    "rw=randread bs=4k size=1m number_ios=10 nrfiles=4",
    "rw=read bs=64k size=100k io_size=1m",
    "rw=read bs=64k size=1m io_size=3m number_ios=100 loops=3",
    "rw=write:4k bs=4k size=1m",
    "rw=read:12k bs=4k filesize=1m",
    "rw=read:64k bs=4k size=1025k",
    "rw=read:64k bs=4k size=1025k loops=3",
    "rw=read:64k bs=4k size=1025k nrfiles=2 loops=2",
    "rw=read:4k bs=8k size=1020k loops=2",
    "rw=read:4k bs=4k size=514k",
    "rw=read:64k bs=4k filesize=1025k",
    "rw=read:12k bs=4k filesize=1001k size=500k",
    "rw=read:64k bs=4k size=300k filesize=1m loops=2",
    "rw=read:64k bs=4k size=1025k offset=16k",
    "rw=read:64k bs=4k size=1025k offset=16k filesize=2m",
    "rw=read:12k bs=4k size=1001k offset=8k loops=2",
    "rw=read:64k bs=4k size=1025k io_size=3m",
    "rw=rw:64k bs=4k size=1m rwmixread=100",
    "rw=read:-64k bs=4k size=1025k loops=3",
    "rw=read bs=4ki size=1Mi",
    "rw=read bs=4ki size=1Mi kb_base=1000",
    "rw=randread bs=4k ba=64k size=1m",
    "rw=read bs=4k,64k bs_is_seq_rand=1 size=1m",
    "rw=read bs=4k size=256k offset=400k filesize=512k",
    "rw=randread bs=4k size=50% filesize=1m",
    "rw=randread bs=4k size=1m random_generator=lfsr loops=3",
    "rw=trimwrite bs=4k size=1m",
    "rw=read bs=4k fileoffset=4k size=1m",
    "rw=read bs=64k-512k size=4m",
    "rw=read bs=4k size=100%% filesize=1m",
    "rw=read:-8k bs=4k size=1m",
    "rw=read bs=4k size=1m numjobs=3 filename=a:b",
    "rw=write bs=4k size=1m verify=md5 do_verify=0",
    "rw=write bs=4k size=1m verify=md5 ioengine=psync",
    "rw=randwrite bs=4k size=1m verify=md5 loops=3 ioengine=psync",
    "rw=write bs=4k size=1m verify=crc32c verify_backlog=16 loops=2 ioengine=psync",
    "rw=read:12k bs=4k filesize=1m ioengine=psync",
    "rw=randread bssplit=512/50:64k/50 size=2049m",
    "rw=randread bs=4k size=1000000 nrfiles=3 loops=2",
    "rw=randrw bsrange=1k-9k size=1000000 nrfiles=3",
    "rw=randread bs=4k size=5m filesize=1m nrfiles=2",
    "rw=randread bssplit=4k/60:64k/40 size=64m nrfiles=4",
    "rw=randread bs=4k size=1m iodepth=4 norandommap loops=3",
    "rw=read:64k bs=4k size=1025k loops=3 iodepth=4",
    "rw=randwrite bs=4k size=1m norandommap io_size=3m iodepth=4 loops=2",
]


SAME = [  # jobs of one file of which fio logs every request: all at its places, in its order
    "rw=write bs=3000 size=10000",
    "rw=randwrite bs=3000 size=10000",
    "rw=write bs=4k size=10000 io_size=20000",
    "rw=write bs=4k size=64k io_size=30000",
    "rw=read bs=4k size=32k loops=2",
    "rw=read bs=4k size=32k number_ios=20",
    "rw=randwrite bs=4k size=64k io_size=100k",
    "rw=randread bs=0x1000 size=1m number_ios=300 io_size=10m",
    "rw=write bs=4kib size=1mib offset=16k",
    "rw=randrw bs=4k size=1m norandommap=0",
    "rw=write bs=4kB kb_base=1000 size=1mib",
    "rw=randrw bsrange=4k-64k size=64m",
    "rw=randrw bsrange=4k-64k norandommap size=64m",
    "rw=write bsrange=4k-22k size=64m",
    "rw=write bsrange=4k-22k bs_unaligned size=64m",
    "rw=randwrite bssplit=4k/10:64k/:32k/ norandommap size=64m",
    "rw=randrw bs=8k,32k rwmixread=70 size=64m norandommap",
    "rw=rw bs=8k,32k rwmixread=70 size=64m",
    "rw=rw:4k bs=4k size=64m",
    "rw=rw:64k bs=4k size=64m",
    "rw=rw:64k bs=4k size=64m rwmixread=70",
    "rw=rw:8k bs=4k,8k size=64m",
    "rw=randread:8 bs=4k size=1000000",
    "rw=randread:8 bs=5000 size=1000k",
    "rw=randwrite:2 bs=4k size=999k",
    "rw=randread:2 bs=4k size=1000k",
    "rw=randread:1000 bs=4k size=1000k offset=16k",
    "rw=randread:-1 bs=4k size=1000000",
    "rw=randread:8 bs=4k size=1000000 norandommap",
    "rw=randread:8 bs=4k size=1000000 rw_sequencer=identical",
    "rw=randread:8 bs=4k size=1000000 io_size=3m",
    "rw=randread:8 bs=4k size=1000000 filesize=2m",
    "rw=randread:2 bs=512 size=777777 number_ios=200",
    "rw=randread bs=4k size=1000000 loops=3",
    "rw=randrw:8 bs=4k size=1000000",
    "rw=randrw:8 bs=4k,8k size=1m",
    "rw=randread:8k bs=4k size=1000000",
    "rw=randread:8 bs=4k size=1000000 loops=3",
    "rw=randread:3 bs=4k size=8k io_size=1m",
    "rw=randrw:3 bs=3000 size=777777 loops=2",
    "rw=randread bs=5000 size=1000k",
    "rw=randrw bs=4k,64k size=10m rwmixread=30",
    "rw=randrw bsrange=4k-64k,512-8k size=10m",
    "rw=randread bssplit=4k/10:6k/40:64k/ size=10m loops=2",
    "rw=randwrite bs=4k,8k size=1m",
    "rw=randwrite bs=4k size=1m norandommap io_size=3m",
    "rw=randread bs=4k size=1m percentage_random=40",
    "rw=randrw bs=4k size=1m percentage_random=40,70 loops=2",
    "rw=randread bs=4k size=1m randrepeat=0 randseed=7 loops=3",
    "rw=rw:12k bs=4k size=1m rwmixread=30 offset=64k loops=2",
    "rw=read:64k bs=4k size=1025k loops=3",
    "rw=read:64k bs=4k filesize=1025k",
    "rw=read:-8k bs=4k size=1m offset=16k loops=2",
    "rw=randread bs=4k size=1000000 offset=8k filesize=999999",
    "rw=randread bs=4k size=30% filesize=1m",
    "rw=randwrite bs=4k ba=1k,8k size=1m loops=2",
    "rw=write bsrange=1k-9k size=1000000 loops=3 io_size=500k",
    "rw=randread bsrange=512-64k size=1m number_ios=77 loops=3",
]


def _written(tmp_path: Path, jobs: list[str], each: str) -> Path:
    """A file of jobs that run one after the other."""
    sections = [f"[{i}]\n{each.format(i)}" + job.replace(" ", "\n") for i, job in enumerate(jobs)]
    (tmp_path / "job.fio").write_text("[global]\nioengine=null\nstonewall\n" + "\n".join(sections) + "\n")
    return tmp_path / "job.fio"


def _run(tmp_path: Path, jobs: list[str], each: str, *options: str) -> str:
    """What fio prints of jobs that run one after the other."""
    require(FIO is not None, "fio is not installed")
    _written(tmp_path, jobs, each)
    command = [str(FIO), *options, "job.fio"]
    return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout


def test_requests_are_fio_s_own(tmp_path: Path) -> None:
    """Each is a job of one file that runs after the ones before it: where a request lies depends on the job's number.

    What decides how many there are: the bytes behind the last whole block, which a random place that is taken may lead
    to, and where a pass ends; what a pass ends at, which is the file's end where each request is done when it is made.
    """
    _run(tmp_path, SAME, "filename=x\nwrite_iolog={0}.log\n")
    ours, wrong = {part.name: part for part in load(tmp_path / "job.fio").parts()}, []
    for i, options in enumerate(SAME):
        mine, theirs = ours[str(i)], load(tmp_path / f"{i}.log")
        if not same(mine, theirs):
            wrong.append((options, mine.requests, theirs.requests))
    assert not wrong


BOTH_WAYS = """
import sys
from pagewarden.workload import load
from pagewarden.workload.fio import issue

def drawn():
    found = [(part.write, part.offset, part.length) for part in load(sys.argv[1]).parts()]
    return [[column.tolist() for column in columns] for columns in found]

plain = drawn()
assert "numba" not in sys.modules, "nothing needed the compiler yet"
issue.INTERPRETED = 0
assert drawn() == plain and "numba" in sys.modules
"""


def test_interpreted_and_compiled_agree(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BOTH_WAYS, str(_written(tmp_path, SAME, "filename=x\n"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_option_of_the_installed_fio_is_known() -> None:
    require(FIO is not None, "fio is not installed")
    listed = subprocess.run([str(FIO), "--cmdhelp"], check=True, capture_output=True, text=True).stdout
    names = {line.partition(":")[0].strip() for line in listed.splitlines() if ":" in line}
    assert len(names) > 150 and not names - known().names
    engines = subprocess.run([str(FIO), "--enghelp"], check=True, capture_output=True, text=True).stdout.split()
    assert not set(engines) & {"libaio", "psync"} - known().engines
    assert {name for name in engines if name not in ("Available", "IO", "engines:")} <= known().engines | known().idle


def test_fio_s_report_repeats_its_options(tmp_path: Path) -> None:
    require(FIO is not None, "fio is not installed")
    (tmp_path / "job.fio").write_text("[global]\nioengine=null\nsize=1m\n[a]\nbs=8k\n[b]\nrw=write\nbs=16k\n")
    command = [str(FIO), "--output-format=json", "--output=report", "job.fio"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert same(load(tmp_path / "report"), load(tmp_path / "job.fio"))


def test_fio_itself_counts_as_many(tmp_path: Path) -> None:
    """Jobs of one file, by their reports."""
    run = _run(tmp_path, COUNTED, "", "--output-format=json")
    jobs = json.loads(run[run.index("{") :])["jobs"]
    ours, wrong = {part.name: part for part in load(tmp_path / "job.fio").parts()}, []
    for i, options in enumerate(COUNTED):
        own = [entry for entry in jobs if entry["jobname"] == str(i)]
        theirs = [
            sum(entry[way][key] for entry in own) for way in ("read", "write") for key in ("total_ios", "io_bytes")
        ]
        mine = ours[str(i)]
        read, write = mine.length[~mine.write], mine.length[mine.write]
        if (counted := [len(read), int(read.sum()), len(write), int(write.sum())]) != theirs:
            wrong.append((options, counted, theirs))
    assert not wrong


def test_a_time_based_job_with_a_map_draws_what_fio_draws_and_says_what_an_early_end_would(tmp_path: Path) -> None:
    """fio starts a new map when one is used up, so that requests are cut pass after pass; without a map none is."""
    require(FIO is not None, "fio is not installed")
    lines = ["filename=disk", "rw=randread", "bssplit=4k/60:16k/20:52k/20", "size=64m"]
    timed = ["time_based", "runtime=1"]
    command = [
        str(FIO),
        "--output-format=json",
        "--name=j",
        "--ioengine=null",
        *(f"--{line}" for line in lines + timed),
    ]
    ran = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (theirs,) = json.loads(ran.stdout[ran.stdout.index(b"{") :])["jobs"]
    assert theirs["read"]["io_bytes"] > 4 * (64 << 20), "some passes"
    ours = job(tmp_path, *lines, *timed)
    mean = ours.bytes / ours.requests
    assert (
        mean == pytest.approx(theirs["read"]["io_bytes"] / theirs["read"]["total_ios"], rel=0.05) and mean < 10 * 1024
    )
    said = [note for note in ours.notes if "random map" in note]
    assert len(said) == 1 and "longer ones, 16 KiB (norandommap=1)" in said[0]
    free = job(tmp_path, *lines, *timed, "norandommap=1")
    assert free.bytes / free.requests == pytest.approx(16 * 1024, rel=0.05)
    for others in (
        [*lines, *timed, "norandommap=1"],
        lines,
        [*lines, *timed, "io_size=1m"],
        [*lines[:2], "size=64m", *timed],
    ):
        assert not any("random map" in note for note in job(tmp_path, *others).notes)
