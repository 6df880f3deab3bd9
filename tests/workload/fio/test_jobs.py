"""fio job files: units, precedence, limits, refusals; and, where fio is installed, the same totals as fio's own log."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from live import require
from pagewarden.vocab import UserMistake
from pagewarden.workload import Workload, load
from pagewarden.workload.fio.job import NOMINAL
from pagewarden.workload.fio.options import known
from pagewarden.workload.load import Reading, of_fio


def job(folder: Path, *lines: str, head: str = "[j]") -> Workload:
    path = folder / "job.fio"
    path.write_text("\n".join([head, *lines]) + "\n")
    return load(path)


def same(a: Workload, b: Workload) -> bool:
    return all(np.array_equal(getattr(a, c), getattr(b, c)) for c in ("write", "offset", "length"))


def test_sequential_requests(tmp_path: Path) -> None:
    workload = job(tmp_path, "rw=write", "bs=4k", "size=16k", "offset=1m")
    assert workload.write.tolist() == [True] * 4
    assert workload.offset.tolist() == [(1 << 20) + 4096 * i for i in range(4)]
    assert workload.length.tolist() == [4096] * 4
    assert (workload.format, workload.depth, workload.time_ns) == ("fio job", 1, None)


def test_random_requests_cover_each_block_once_a_pass(tmp_path: Path) -> None:
    workload = job(tmp_path, "rw=randread", "bs=4k", "size=256k", "io_size=512k")
    blocks = (workload.offset // 4096).tolist()
    assert sorted(blocks[:64]) == sorted(blocks[64:]) == list(range(64))
    assert blocks[:64] != sorted(blocks[:64])
    again = job(tmp_path, "rw=randread", "bs=4k", "size=256k", "norandommap")
    assert len(set(again.offset.tolist())) < 64


def test_mixed_sizes_with_a_map_do_not_overlap_within_a_pass(tmp_path: Path) -> None:
    workload = job(tmp_path, "rw=randrw", "bsrange=4k-64k", "size=4m")
    order = np.argsort(workload.offset)
    ends = (workload.offset + workload.length)[order]
    assert np.array_equal(ends[:-1], workload.offset[order][1:])
    assert workload.bytes == 4 << 20


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4096", 4096),
        ("4k", 4096),
        ("4K", 4096),
        ("4kb", 4096),
        ("4kB", 4096),
        ("4kib", 4000),
        ("4KiB", 4000),
        ("0x1000", 4096),
        ("1m", 1 << 20),
        ("1mib", 10**6),
        ("512b", 512),
    ],
)
def test_units_are_fio_s(tmp_path: Path, text: str, value: int) -> None:
    assert job(tmp_path, f"bs={text}", "size=8m", "number_ios=1").length.tolist() == [value]


def test_kb_base(tmp_path: Path) -> None:
    assert job(tmp_path, "kb_base=1000", "bs=4k", "size=1m", "number_ios=1").length.tolist() == [4000]
    assert job(tmp_path, "kb_base=1000", "bs=4kib", "size=1m", "number_ios=1").length.tolist() == [4096]
    assert job(tmp_path, "bs=4ki", "size=1Mi", "number_ios=1").length.tolist() == [4096]


def test_globals_sections_comments_and_the_last_value(tmp_path: Path) -> None:
    path = tmp_path / "job.fio"
    path.write_text(
        "# first\n[global]\nbs=8k ; behind\nsize=16k # too\n[a]\nrw=write\n[global]\nbs=16k\n[b]\nrw=read\n"
        "rw=write\n\tsize=32k\n"
    )
    workload = load(path)
    assert workload.length.tolist() == [8192, 16384, 8192, 16384]  # the jobs take turns
    assert workload.write.all()


def test_copies_offsets_depth_and_stonewall(tmp_path: Path) -> None:
    path = tmp_path / "job.fio"
    path.write_text(
        "[a]\nioengine=libaio\niodepth=8\nnumjobs=2\nsize=8k\noffset_increment=1m\n"
        "[b]\nstonewall\nioengine=libaio\niodepth=3\nsize=4k\nrw=write\n"
    )
    workload = load(path)
    assert workload.offset.tolist() == [0, 1 << 20, 4096, (1 << 20) + 4096, 0]
    assert workload.write.tolist() == [False] * 4 + [True]
    assert workload.depth == 16
    sync = job(tmp_path, "iodepth=8", "size=4k")
    assert sync.depth == 1 and any("no effect" in note for note in sync.notes)


def test_the_same_seed_gives_the_same_requests(tmp_path: Path) -> None:
    lines = ["rw=randrw", "bsrange=4k-64k", "size=4m", "norandommap"]
    assert same(job(tmp_path, *lines), job(tmp_path, *lines))
    assert same(job(tmp_path, *lines, "randseed=5"), job(tmp_path, *lines, "randseed=5"))
    assert not same(job(tmp_path, *lines), job(tmp_path, *lines, "randseed=5"))
    two = job(tmp_path, *lines, "numjobs=2")
    assert two.offset[0::2].tolist() != two.offset[1::2].tolist()


@pytest.mark.parametrize(
    ("lines", "reads"),
    [
        (["rwmixread=100"], 1.0),
        (["rwmixread=0"], 0.0),
        ([], 0.5),
        (["rwmixread=70"], 0.7),
        (["rwmixwrite=70"], 0.3),
        (["rwmixread=90", "rwmixwrite=70"], 0.3),
        (["rwmixwrite=70", "rwmixread=90"], 0.9),
    ],
)
def test_the_mix(tmp_path: Path, lines: list[str], reads: float) -> None:
    workload = job(tmp_path, "rw=rw", "size=64m", *lines)
    assert 1 - workload.write.mean() == pytest.approx(reads, abs=0.02 if 0 < reads < 1 else 0)


def test_sizes_by_direction_and_their_order_of_precedence(tmp_path: Path) -> None:
    def sizes(*lines: str) -> tuple[list[int], list[int]]:
        w = job(tmp_path, "rw=randrw", "norandommap", "size=64m", "number_ios=2000", *lines)
        return sorted(set(w.length[~w.write].tolist())), sorted(set(w.length[w.write].tolist()))

    k = 1024
    assert sizes() == ([4 * k], [4 * k])
    assert sizes("bs=8k") == ([8 * k], [8 * k])
    assert sizes("bs=8k,16k") == sizes("blocksize=8k,16k,32k") == ([8 * k], [16 * k])
    assert sizes("bs=8k,") == ([8 * k], [4 * k])
    assert sizes("bs=,8k") == ([4 * k], [8 * k])
    assert sizes("bsrange=4k-8k,16k:24k", "bs=1k") == ([4 * k, 8 * k], [16 * k, 24 * k])
    assert sizes("bssplit=2k/50:6k/50,1k/100", "bsrange=4k-8k") == ([2 * k, 6 * k], [k])
    assert len(sizes("bsrange=4k-8k", "bs_unaligned")[0]) > 100


def test_a_split_s_shares(tmp_path: Path) -> None:
    workload = job(tmp_path, "rw=write", "bssplit=4k/10:64k/:32k/", "size=1g", "number_ios=20000")
    shares = [float((workload.length == size).mean()) for size in (4096, 32768, 65536)]
    assert shares == pytest.approx([0.10, 0.45, 0.45], abs=0.02)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rw", "rw as one of"),
        ("bs=1.5k", "bs as a whole number"),
        ("bs=4x", "bs as a whole number"),
        ("bs=0", "bs as a whole number"),
        ("bs=-4k", "bs as a whole number"),
        ("bs=5g", "bs as"),
        ("bs=(4*1024)", "bs as"),
        ("bs=4k,4k,4k,4k", "at most three"),
        ("bs= 4k", "without a blank"),
        ("bs=", "bs as"),
        ("bsrange=4k", "LOW-HIGH"),
        ("bsrange=4k-8k-16k", "LOW-HIGH"),
        ("bsrange=,4k-8k", "LOW-HIGH"),
        ("bssplit=4k/50:8k/49", "100"),
        ("bssplit=4k/60:8k/50", "100"),
        ("bssplit=4k/x", "bssplit as"),
        ("size=1k", "size as"),
        ("number_ios=x", "number_ios as"),
        ("numjobs=0", "numjobs as"),
        ("numjobs=99999", "numjobs as"),
        ("iodepth=0", "iodepth as"),
        ("rwmixread=101", "rwmixread as"),
        ("kb_base=1023", "kb_base as one of"),
        ("read_iolog=x", "give the iolog itself"),
        ("ioengine=warp", "an ioengine of fio"),
        ("ioengine", "an ioengine of fio"),
        ("rw=randread:8x", "rw as a whole"),
        ("verify_only=1", "no verify_only"),
        ("trim_percentage=50", "no trim_percentage"),
        ("numjob=4", "did you mean numjobs"),
        ("frobnicate=1", "an option of fio"),
        ("BS=4k", "as fio spells"),
        ("size=${NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE in the environment"),
        ("include other.fio", "a file that can be read"),
        ("norandommap=2", "norandommap as 0 or 1"),
        ("hello world", "KEY=VALUE"),
        ("[", "[NAME]"),
        ("[a]b", "[NAME]"),
        ("loops=0", "loops as"),
        ("offset=9223372036854775807", "reaches beyond"),
        ("bs=99999999999999999999999999k", "bs as"),
    ],
)
def test_refusals_name_file_line_and_what_is_supported(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "job.fio"
    path.write_text(f"[j]\nsize=1m\n{line}\n")
    with pytest.raises(UserMistake) as caught:
        load(path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"{path}:3: found {line!r}" if "beyond" not in expected else "job.fio: job [j]")


def test_refusals_of_the_whole(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="a job section beside"):
        job(tmp_path, "size=1m", head="[global]")
    with pytest.raises(UserMistake, match="only trim"):
        job(tmp_path, "size=1m", "rw=trim")
    with pytest.raises(UserMistake, match="no job in it moves data"):
        job(tmp_path, "ioengine=cpuio")
    with pytest.raises(UserMistake, match="at most 1048576 bytes"):
        job(tmp_path, "size=1m", "#" * (1 << 20))
    assert job(tmp_path, "size=1t", "rw=randread", "number_ios=7").requests == 7


def test_notes_say_what_was_passed_over(tmp_path: Path) -> None:
    lines = ["size=1m", "time_based", "runtime=60", "fsync=8", "direct=1", "group_reporting", "verify=0"]
    notes = job(tmp_path, *lines).notes
    assert any(note.startswith("time_based: ") for note in notes)
    assert any(note.startswith("runtime: ") for note in notes)
    assert any(note.startswith("fsync: ") for note in notes)
    assert "options that change no request: group_reporting" in notes


def test_every_option_is_sorted_once() -> None:
    table = known()
    kinds = [table.used, table.free, frozenset(table.noted), frozenset(table.refused), frozenset(table.aliases)]
    assert sum(map(len, kinds)) == len(table.names)
    assert set(table.aliases.values()) <= table.names and set(table.neutral) <= table.names
    assert not table.synchronous & table.asynchronous and not table.engines & table.idle


def test_every_option_of_the_installed_fio_is_known() -> None:
    require(FIO is not None, "fio is not installed")
    listed = subprocess.run([str(FIO), "--cmdhelp"], check=True, capture_output=True, text=True).stdout
    names = {line.partition(":")[0].strip() for line in listed.splitlines() if ":" in line}
    assert len(names) > 150 and not names - known().names
    engines = subprocess.run([str(FIO), "--enghelp"], check=True, capture_output=True, text=True).stdout.split()
    assert not set(engines) & {"libaio", "psync"} - known().engines
    assert {name for name in engines if name not in ("Available", "IO", "engines:")} <= known().engines | known().idle


def test_more_requests_than_can_be_drawn_are_sampled_and_said(tmp_path: Path) -> None:
    for lines, copies in ((["size=1t"], 1), (["size=64g", "number_ios=1000000", "numjobs=100"], 100)):
        found = job(tmp_path, "rw=read", *lines)
        assert found.requests == copies * NOMINAL
        assert any("requests the first 10,000 of each copy are taken" in note for note in found.notes)


def test_a_plugin_s_engine_has_options_of_its_own(tmp_path: Path) -> None:
    found = job(tmp_path, "ioengine=external:/x/spdk_bdev", "spdk_json_conf=x", "size=8k", "filename=${NOT_SET}")
    assert found.requests == 2 and any("spdk_json_conf" in note for note in found.notes)


@pytest.mark.parametrize("size", [[], ["size=100%"], ["size=0"], ["fill_device=1", "size=1m"]])
def test_a_size_that_only_the_device_tells_is_nominal(tmp_path: Path, size: list[str]) -> None:
    found = job(tmp_path, "filename=/dev/vdb", "rw=randread", "bs=4k", "time_based", "runtime=60", *size)
    assert found.requests == NOMINAL and any("--requests" in note for note in found.notes)
    assert load(tmp_path / "job.fio", reading=Reading(nominal=7)).requests == 7
    assert job(tmp_path, *size, "number_ios=9").requests == 9
    assert job(tmp_path, *size, "io_size=1m").bytes == 1 << 20


def test_jobs_that_wait_come_after_those_they_wait_for(tmp_path: Path) -> None:
    path = tmp_path / "job.fio"
    path.write_text("[global]\nsize=16k\n[a]\nrw=read\n[b]\nwait_for=a\nrw=write\n[c]\nrw=read\n")
    found = load(path)
    assert found.write.tolist() == [False] * 8 + [True] * 4
    assert found.jobs == (("a", 1), ("b", 1), ("c", 1)) and found.independent
    assert [part.name for part in found.parts()] == ["a", "b", "c"]
    assert [part.requests for part in found.parts()] == [4, 4, 4]
    assert load(path, reading=Reading(only=["b"])).write.all()
    with pytest.raises(UserMistake, match="no section is called 'd'; there are a, b, c"):
        load(path, reading=Reading(only=["d"]))


def test_fio_s_command_line_is_a_job_file(tmp_path: Path) -> None:
    words = [
        "fio",
        "--bs=8k",
        "--name=a",
        "--rw=write",
        "--size",
        "32k",
        "--output=x",
        "--name=b",
        "--size=16k",
        "--rw=read",
        "--norandommap",
    ]
    found = of_fio(words)
    text = "[global]\nbs=8k\n[a]\nrw=write\nsize=32k\n[b]\nsize=16k\nrw=read\nnorandommap\n"
    (tmp_path / "job.fio").write_text(text)
    assert same(found, load(tmp_path / "job.fio")) and found.jobs == (("a", 1), ("b", 1))
    with pytest.raises(UserMistake, match="--name=JOB"):
        of_fio(["--bs=4k"])
    with pytest.raises(UserMistake, match="a job file is compared by its own name"):
        of_fio(["--name=a", "job.fio"])
    with pytest.raises(UserMistake, match="did you mean numjobs"):
        of_fio(["--name=a", "--size=4k", "--numjob=3"])


def test_fio_s_report_repeats_its_options(tmp_path: Path) -> None:
    require(FIO is not None, "fio is not installed")
    (tmp_path / "job.fio").write_text("[global]\nioengine=null\nsize=1m\n[a]\nbs=8k\n[b]\nrw=write\nbs=16k\n")
    command = [str(FIO), "--output-format=json", "--output=report", "job.fio"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert same(load(tmp_path / "report"), load(tmp_path / "job.fio"))


def test_what_is_included_stands_where_it_is_included(tmp_path: Path) -> None:
    (tmp_path / "common.inc").write_text("bs=8k\nsize=32k\n")
    assert job(tmp_path, "bs=4k", "include common.inc", "rw=write").length.tolist() == [8192] * 4
    (tmp_path / "common.inc").write_text("include common.inc\n")
    with pytest.raises(UserMistake, match="no deeper than"):
        job(tmp_path, "include common.inc")


def test_variables_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOCK", "8k")
    assert job(tmp_path, "bs=${BLOCK}", "size=16k", "filename_format=file.$jobnum").length.tolist() == [8192] * 2


sizes = st.sampled_from([512, 3000, 4096, 8192, 65536])


@st.composite
def specs(draw: st.DrawFn) -> list[str]:
    """Jobs with small regions, so that passes end and limits bite."""
    low, high = sorted((draw(sizes), draw(sizes)))
    region = draw(st.integers(high, 20 * high))
    mode = draw(st.sampled_from(["read", "write", "rw", "randread", "randwrite", "randrw"]))
    lengths = [f"bs={high}", f"bs={low},{high}", f"bsrange={low}-{high}", f"bssplit={low}/30:{high}/70"]
    lines = [f"rw={mode}", f"size={region}", draw(st.sampled_from(lengths))]
    lines += draw(st.sampled_from([[], [f"io_size={draw(st.integers(1, 3 * region))}"], ["loops=2"]]))
    lines += draw(st.sampled_from([[], [f"number_ios={draw(st.integers(1, 50))}"]]))
    lines += draw(st.sampled_from([[], ["norandommap"]]))
    return [*lines, f"offset={draw(st.sampled_from([0, 4096]))}", f"randseed={draw(st.integers(0, 9))}"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=specs())
@example(lines=["rw=rw", "size=4096", "bs=3000,4096", "offset=0", "randseed=0"])
def test_requests_stay_in_the_region_and_the_limit(tmp_path: Path, lines: list[str]) -> None:
    workload = job(tmp_path, *lines)
    given_ = {key: value for key, _, value in (line.partition("=") for line in lines)}
    offset, region = int(given_["offset"]), int(given_["size"])
    loops = 1 if "io_size" in given_ else int(given_.get("loops", 1))
    limit = int(given_.get("io_size", region)) * loops
    assert workload.requests >= 1 and workload.length.min() > 0
    assert workload.offset.min() >= offset
    assert (workload.offset + workload.length).max() <= offset + region
    assert workload.bytes < limit + loops * int(workload.length.max())
    assert workload.requests <= loops * int(given_.get("number_ios", 10**9))
    assert same(workload, job(tmp_path, *lines))


FIO = shutil.which("fio")
COMPARED = [  # exact: requests, bytes and reach are the same; else within the share given
    (0.0, "rw=write bs=3000 size=10000"),
    (0.0, "rw=randwrite bs=3000 size=10000"),
    (0.0, "rw=write bs=4k size=10000 io_size=20000"),
    (0.0, "rw=write bs=4k size=64k io_size=30000"),
    (0.0, "rw=read bs=4k size=32k loops=2"),
    (0.0, "rw=read bs=4k size=32k number_ios=20"),
    (0.0, "rw=randwrite bs=4k size=64k io_size=100k"),
    (0.0, "rw=randread bs=0x1000 size=1m number_ios=300 io_size=10m"),
    (0.0, "rw=write bs=4kib size=1mib offset=16k"),
    (0.0, "rw=randrw bs=4k size=1m norandommap=0"),
    (0.0, "rw=write bs=4kB kb_base=1000 size=1mib"),
    (0.06, "rw=randrw bsrange=4k-64k size=64m"),
    (0.06, "rw=randrw bsrange=4k-64k norandommap size=64m"),
    (0.06, "rw=write bsrange=4k-22k size=64m"),
    (0.06, "rw=write bsrange=4k-22k bs_unaligned size=64m"),
    (0.06, "rw=randwrite bssplit=4k/10:64k/:32k/ norandommap size=64m"),
    (0.06, "rw=randrw bs=8k,32k rwmixread=70 size=64m norandommap"),
    (0.06, "rw=rw bs=8k,32k rwmixread=70 size=64m"),
    (0.01, "rw=randread bssplit=512/50:64k/50 size=2049m"),
    (0.06, "rw=randread bssplit=4k/60:64k/40 size=512m random_generator=lfsr"),
    (0.06, "rw=randread bssplit=4k/60:64k/40 size=256m nrfiles=4"),
]


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
    "rw=randread bs=4k size=1m number_ios=10 nrfiles=4",
    "rw=read bs=64k size=100k io_size=1m",
    "rw=read bs=64k size=1m io_size=3m number_ios=100 loops=3",
    "rw=write:4k bs=4k size=1m",
    "rw=read:12k bs=4k filesize=1m",
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
]


@pytest.mark.parametrize("options", COUNTED)
def test_fio_itself_counts_as_many(tmp_path: Path, options: str) -> None:
    require(FIO is not None, "fio is not installed")
    text = "\n".join(["[j]", *([] if "ioengine" in options else ["ioengine=null"]), *options.split()]) + "\n"
    (tmp_path / "job.fio").write_text(text)
    ran = subprocess.run([str(FIO), "--output-format=json", "job.fio"], cwd=tmp_path, check=True, capture_output=True)
    jobs = json.loads(ran.stdout[ran.stdout.index(b"{") :])["jobs"]
    theirs = [sum(entry[way][key] for entry in jobs) for way in ("read", "write") for key in ("total_ios", "io_bytes")]
    ours = load(tmp_path / "job.fio")
    read, write = ours.length[~ours.write], ours.length[ours.write]
    assert [len(read), int(read.sum()), len(write), int(write.sum())] == theirs


@pytest.mark.parametrize(("tolerance", "options"), COMPARED, ids=lambda v: str(v))
def test_fio_itself_asks_for_as_much(tmp_path: Path, tolerance: float, options: str) -> None:
    require(FIO is not None, "fio is not installed")
    ours = job(tmp_path, *options.split())
    run = "[j] filename=x ioengine=null write_iolog=log " + options
    (tmp_path / "run.fio").write_text(run.replace(" ", "\n") + "\n")
    subprocess.run([str(FIO), "run.fio"], cwd=tmp_path, check=True, capture_output=True)
    theirs = load(tmp_path / "log")

    def measures(w: Workload) -> list[float]:
        return [w.requests, w.bytes, float(w.length.mean()), float(w.length.max()), len(set(w.offset.tolist()))]

    assert measures(ours) == pytest.approx(measures(theirs), rel=tolerance)
    if tolerance == 0:
        assert np.array_equal(np.sort(ours.length), np.sort(theirs.length))
        ends = [int((workload.offset + workload.length).max()) for workload in (ours, theirs)]
        assert ends[0] == ends[1] or "number" in options
