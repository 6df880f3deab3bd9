"""fio job files as text: units, sections, what is included, refusals that name the line."""

from pathlib import Path

import pytest

from fio_jobs import job, same
from pagewarden.vocab import UserMistake
from pagewarden.workload import load
from pagewarden.workload.fio.options import known
from pagewarden.workload.load import of_fio


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


def test_a_blank_behind_the_equals_sign_of_a_name_or_a_plain_number_does_nothing(tmp_path: Path) -> None:
    plain = ["size=65536", "rw=randread", "numjobs=3", "filename=/dev/vdb", "runtime=9", "name=a"]
    spaced = ["size= 65536", "rw=randread", "numjobs= 3", "filename=  /dev/vdb", "runtime= 9", "name= a"]
    assert same(job(tmp_path, *spaced), job(tmp_path, *plain))
    with pytest.raises(UserMistake, match="without a blank"):
        job(tmp_path, "size=1m", "rw= randread")


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


def test_a_plugin_s_engine_has_options_of_its_own(tmp_path: Path) -> None:
    found = job(tmp_path, "ioengine=external:/x/spdk_bdev", "spdk_json_conf=x", "size=8k", "filename=${NOT_SET}")
    assert found.requests == 2 and any("spdk_json_conf" in note for note in found.notes)


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


def test_what_is_included_stands_where_it_is_included(tmp_path: Path) -> None:
    (tmp_path / "common.inc").write_text("bs=8k\nsize=32k\n")
    assert job(tmp_path, "bs=4k", "include common.inc", "rw=write").length.tolist() == [8192] * 4
    (tmp_path / "common.inc").write_text("include common.inc\n")
    with pytest.raises(UserMistake, match="no deeper than"):
        job(tmp_path, "include common.inc")


def test_variables_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOCK", "8k")
    assert job(tmp_path, "bs=${BLOCK}", "size=16k", "filename_format=file.$jobnum").length.tolist() == [8192] * 2
