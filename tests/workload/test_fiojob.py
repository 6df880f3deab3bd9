"""fio job files: units, precedence, limits, refusals; and, where fio is installed, the same totals as fio's own log."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import require

from pagewarden.vocab import UserMistake
from pagewarden.workload import Workload, load
from pagewarden.workload.options import ALIASES, CHANGES, HARMLESS, KNOWN, NEUTRAL, TOLERATED, USED


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
    with pytest.raises(UserMistake, match="disagree"):
        job(tmp_path, "bs=4ki", "size=1m")


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
        ("rw=trim", "rw as one of"),
        ("rw=randread:8", "rw as one of"),
        ("rw", "rw as one of"),
        ("bs=1.5k", "bs as a whole number"),
        ("bs=4x", "bs as a whole number"),
        ("bs=0", "bs as a whole number"),
        ("bs=-4k", "bs as a whole number"),
        ("bs=5g", "bs as"),
        ("bs=(4*1024)", "bs as"),
        ("bs=4k,4k,4k,4k", "at most three"),
        ("bs= 4k", "without a blank"),
        ("bs=", "without a blank"),
        ("bsrange=4k", "LOW-HIGH"),
        ("bsrange=4k-8k-16k", "LOW-HIGH"),
        ("bsrange=,4k-8k", "LOW-HIGH"),
        ("bssplit=4k/50:8k/49", "100"),
        ("bssplit=4k/60:8k/50", "100"),
        ("bssplit=4k/x", "bssplit as"),
        ("size=20%", "size as"),
        ("size=1k", "size as"),
        ("number_ios=x", "number_ios as"),
        ("numjobs=0", "numjobs as"),
        ("numjobs=99999", "numjobs as"),
        ("iodepth=0", "iodepth as"),
        ("rwmixread=101", "rwmixread as"),
        ("ioengine=net", "ioengine as one of"),
        ("ioengine=libpmem", "ioengine as one of"),
        ("kb_base=1023", "kb_base as one of"),
        ("verify=crc32c", "would change the requests"),
        ("nrfiles=4", "would change"),
        ("zonemode=zbd", "would change"),
        ("random_distribution=zipf:1.2", "would change"),
        ("read_iolog=x", "would change"),
        ("numjob=4", "did you mean numjobs"),
        ("frobnicate=1", "an option of fio"),
        ("BS=4k", "as fio spells"),
        ("size=$mb_memory", "$"),
        ("size=${SIZE}", "$"),
        ("include other.fio", "include is not followed"),
        ("filename=a:b", "one file"),
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
    assert str(caught.value).startswith(f"{path}:3: found {line!r}" if "beyond" not in expected else f"{path}: job [j]")


def test_refusals_of_the_whole(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match=r"job\.fio:1: found '\[j\]', expected size=BYTES"):
        job(tmp_path, "rw=read")
    with pytest.raises(UserMistake, match="a job section beside"):
        job(tmp_path, "size=1m", head="[global]")
    with pytest.raises(UserMistake, match="set number_ios or io_size"):
        job(tmp_path, "size=1t", "rw=read")
    with pytest.raises(UserMistake, match="set number_ios or io_size"):
        job(tmp_path, "size=64g", "number_ios=1000000", "numjobs=4096")
    with pytest.raises(UserMistake, match="either loops or io_size"):
        job(tmp_path, "size=1m", "loops=2", "io_size=3m")
    with pytest.raises(UserMistake, match="at most 1048576 bytes"):
        job(tmp_path, "size=1m", "#" * (1 << 20))
    assert job(tmp_path, "size=1t", "rw=randread", "number_ios=7").requests == 7


def test_notes_say_what_was_passed_over(tmp_path: Path) -> None:
    lines = ["size=1m", "time_based", "runtime=60", "fsync=8", "direct=1", "group_reporting", "verify=0"]
    notes = job(tmp_path, *lines).notes
    assert any(note.startswith("time_based: ") for note in notes)
    assert any(note.startswith("runtime: ") for note in notes)
    assert any(note.startswith("fsync: ") for note in notes)
    assert "options that change no request: direct, group_reporting" in notes


def test_every_option_is_sorted_once() -> None:
    kinds = [USED, frozenset(TOLERATED), CHANGES, HARMLESS, frozenset(ALIASES)]
    assert sum(map(len, kinds)) == len(KNOWN)
    assert set(ALIASES.values()) <= USED and set(NEUTRAL) <= CHANGES


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
def test_requests_stay_in_the_region_and_the_limit(tmp_path: Path, lines: list[str]) -> None:
    workload = job(tmp_path, *lines)
    given_ = {key: value for key, _, value in (line.partition("=") for line in lines)}
    offset, region = int(given_["offset"]), int(given_["size"])
    limit = int(given_.get("io_size", region)) * int(given_.get("loops", 1))
    assert workload.requests >= 1 and workload.length.min() > 0
    assert workload.offset.min() >= offset
    assert (workload.offset + workload.length).max() <= offset + region
    assert workload.bytes < limit + int(workload.length.max())
    assert workload.requests <= int(given_.get("number_ios", 10**9))
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
]


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
