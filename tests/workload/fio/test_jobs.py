"""The requests of fio jobs: their order, sizes, limits, regions."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fio_jobs import job, same
from pagewarden.vocab import UserMistake
from pagewarden.workload import load
from pagewarden.workload.fio.job import NOMINAL
from pagewarden.workload.load import Reading


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


def test_more_requests_than_can_be_drawn_are_sampled_and_said(tmp_path: Path) -> None:
    for lines, copies in ((["size=1t"], 1), (["size=64g", "number_ios=1000000", "numjobs=100"], 100)):
        found = job(tmp_path, "rw=read", *lines)
        assert found.requests == copies * NOMINAL
        assert any("requests the first 10,000 of each copy are taken" in note for note in found.notes)


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


def test_a_random_request_and_those_that_follow_it_end_where_one_has_no_room(tmp_path: Path) -> None:
    """As fio 3.33 logs it: 204 of the 244 whole blocks, since the last run reaches the 576 bytes behind them."""
    found = job(tmp_path, "rw=randread:8", "bs=4k", "size=1000000")
    blocks = (found.offset // np.uint64(4096)).tolist()
    assert blocks[::8][:12] == [14, 180, 205, 114, 98, 204, 92, 86, 222, 16, 208, 158]
    assert len(blocks) == 204 and blocks[:9] == [*range(14, 22), 180] and blocks[-4:] == [240, 241, 242, 243]


def test_a_region_of_more_blocks_than_can_be_remembered_has_followed_requests_too(tmp_path: Path) -> None:
    assert job(tmp_path, "rw=randread:4", "bs=512", "size=1000t", "number_ios=10").requests == 10
