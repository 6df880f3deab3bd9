"""Traces in the forms that people have: what each reader finds in a small file of its form, written for the purpose."""

import io
import os
import re
import struct
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from pagewarden.vocab import UserMistake
from pagewarden.workload import Workload, load
from pagewarden.workload.load import Reading

Row = tuple[bool, int, int, int]
FTRACE = """# tracer: nop
#
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
             fio-1201    [001] d..1.   100.000001: block_rq_issue: 8,0 WS 4096 () 2048 + 8 none,0,0 [fio]
             fio-1201    [001] d..1.   100.000002: block_rq_complete: 8,0 WS () 2048 + 8 none,0,0 [0]
 kworker/0:1H-77        [000] d..1.   100.000005: block_rq_issue: 8,0 R 65536 () 4096 + 128 [kworker/0:1H]
             fio-1201    [001] d..1.   100.000009: block_rq_issue: 8,0 FF 0 () 0 + 0 [fio]
"""
PERF = """fio  1201 [001]   100.000001:       block:block_rq_issue: 8,0 WS 4096 () 2048 + 8 [fio]
kworker/u4:2    77 [000]   100.000005:       block:block_rq_issue: 8,0 R 65536 () 4096 + 128 [kworker/u4:2]
"""
BIOSNOOP = """TIME(s)     COMM           PID     DISK      T  SECTOR     BYTES   LAT(ms)
0.000001    fio            1201    vda       W  2048       4096       0.74
0.000005    Web Content    77      vda       R  4096       65536      0.74
"""
IOSNOOP = """Tracing block I/O. Ctrl-C to end.
COMM         PID    TYPE DEV      BLOCK        BYTES     LATms
fio          1201   WS   8,0      2048         4096       0.74
kworker/0:1  77     R    8,0      4096         65536      1.09
"""
MSR = """128166372003061629,host,0,Write,1048576,4096,413
128166372003061669,host,0,Read,2097152,65536,500
"""
SYSTOR = """Timestamp,Response,IOType,LUN,Offset,Size
1456113600.000001,0.0005,W,0,1048576,4096
1456113600.000005,,R,0,2097152,65536
"""
VSCSI = """#Vscsi Cmd Trace. (Trace Format Version 1)
#Serial Number,IO Data Length,Num SG Entries,Command Type,LBN,Time Stamp (microseconds)
1,4096,1,write,2048,2756778716647
2,65536,1,read,4096,2756778716651
"""
SPC = """0,2048,4096,W,0.000001
1,4096,65536,r,0.000005
"""
ALIBABA = """419,W,1048576,4096,1577808144360767
725,R,2097152,65536,1577808144360771
"""
TENCENT = """1538323200,2048,8,1,1063
1538323200,4096,128,0,1627
"""
QEMU = """4711@1600000000.000001:blk_co_pwritev blk 0x55d0 bs 0x55d1 offset 1048576 bytes 4096 flags 0x0
4711@1600000000.000003:bdrv_co_flush bs 0x55d1
4711@1600000000.000005:blk_co_preadv blk 0x55d0 bs 0x55d1 offset 2097152 bytes 65536 flags 0x0
"""
VIRTIO = """virtio_blk_handle_write vdev 0x1 req 0x2 sector 2048 nsectors 8
virtio_blk_handle_read vdev 0x1 req 0x2 sector 4096 nsectors 128
"""
SIMPLE = """virtio_blk_handle_write 0.000 pid=4711 vdev=0x55d0 req=0x2 sector=0x800 nsectors=0x8
virtio_blk_req_complete 3.219 pid=4711 vdev=0x55d0 req=0x2 status=0x0
virtio_blk_handle_read 1.002 pid=4711 vdev=0x55d0 req=0x2 sector=0x1000 nsectors=0x80
"""
WRITE, READ = (True, 1 << 20, 4096), (False, 2 << 20, 65536)


def rows(workload: Workload) -> list[tuple[bool, int, int]]:
    return list(zip(workload.write.tolist(), workload.offset.tolist(), workload.length.tolist(), strict=True))


@pytest.mark.parametrize(
    ("text", "form", "later_ns"),
    [
        (FTRACE, "block events", 4000),
        (PERF, "block events", 4000),
        (BIOSNOOP, "biosnoop", 4000),
        (IOSNOOP, "iosnoop", 0),
        (MSR, "CSV", 4000),
        (SYSTOR, "CSV", 4000),
        (VSCSI, "CSV", 4000),
        (SPC, "CSV", 4000),
        (ALIBABA, "CSV", 4000),
        (TENCENT, "CSV", 0),
        (QEMU, "QEMU", 4000),
        (VIRTIO, "QEMU", 0),
        (SIMPLE, "QEMU", 0),
    ],
    ids=[
        "ftrace",
        "perf",
        "biosnoop",
        "iosnoop",
        "msr",
        "systor",
        "vscsi",
        "spc",
        "alibaba",
        "tencent",
        "qemu",
        "virtio",
        "simpletrace",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "dos"])
def test_a_write_and_a_read(tmp_path: Path, text: str, form: str, later_ns: int, end: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text.replace("\n", end), newline="")
    found = load(path)
    assert rows(found) == [WRITE, READ] and form in found.format
    assert found.time_ns is not None and found.time_ns[1] == pytest.approx(later_ns, abs=300)


@pytest.mark.parametrize("far", [2**55 + 4096, 10**30], ids=["wraps", "long"])
@pytest.mark.parametrize("text", [FTRACE, PERF, BIOSNOOP, IOSNOOP, MSR, VSCSI, SPC, ALIBABA, TENCENT, QEMU, VIRTIO])
def test_a_place_beyond_any_device_is_refused(tmp_path: Path, text: str, far: int) -> None:
    """A sector's number times 512 may be a small number again."""
    before, _, behind = text.rpartition("2097152" if "2097152" in text else "4096")
    (tmp_path / "trace").write_text(f"{before}{far * (512 if '2097152' in text else 1)}{behind}")
    with pytest.raises(UserMistake, match=r"beyond any device|found"):
        load(tmp_path / "trace")


@pytest.mark.parametrize(
    "text", [FTRACE, PERF, BIOSNOOP, IOSNOOP, MSR, SYSTOR, VSCSI, SPC, ALIBABA, TENCENT, QEMU, VIRTIO, SIMPLE]
)
def test_a_number_of_any_length_is_read_or_refused(tmp_path: Path, text: str) -> None:
    """Each number of the file's last line of data, in its turn."""
    lines = text.splitlines()
    where = lines.index(next(line for line in reversed(lines) if "FF" not in line))
    for number in re.finditer(r"\d+", lines[where]):
        longer = lines[where][: number.start()] + "9" * 40 + lines[where][number.end() :]
        (tmp_path / "trace").write_text("\n".join([*lines[:where], longer]) + "\n")
        with suppress(UserMistake):
            assert len(rows(load(tmp_path / "trace"))) <= 2


def test_a_flush_moves_nothing(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(FTRACE)
    assert load(tmp_path / "trace").skipped == {"flush": 1}


def test_requests_of_no_length_move_nothing_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text("when,what,where,how much\n0.5,write,2048,8\n0.6,read,4096,0\n0.6,read,4096,128\n0.7,write,0,0\n")
    found = load(path, reading=Reading(columns=["time", "op", "sector", "sectors"]))
    assert rows(found) == [WRITE, READ] and dict(found.skipped) == {"no data": 2}


def test_a_requeued_request_is_one(tmp_path: Path) -> None:
    line = "fio-1 [001] d..1. 100.00000%d: %s: 8,0 WS %s() 2048 + 8 [fio]\n"
    text = line % (1, "block_rq_issue", "4096 ") + line % (2, "block_rq_requeue", "")
    (tmp_path / "trace").write_text(text + line % (3, "block_rq_issue", "4096 "))
    assert rows(load(tmp_path / "trace")) == [WRITE]


def test_lost_events_are_said(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(FTRACE + "CPU:1 [LOST 321 EVENTS]\n")
    assert any("321 events were lost" in note for note in load(tmp_path / "trace").notes)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(
        BIOSNOOP + "0.000009    fio            1201    vda       W  x2048      4096  0.74\n"
    )
    with pytest.raises(UserMistake, match=r"trace:4: found '0.000009 .*expected TIME"):
        load(tmp_path / "trace")


@pytest.mark.parametrize("text", [FTRACE, PERF], ids=["ftrace", "perf"])
def test_a_block_event_that_breaks_off_anywhere_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    """From within its name to its last number; the line behind it is whole."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        for cut in range(line.find("block_") + 6, line.rindex(" + ") + 4) if " + " in line else ():
            (tmp_path / "trace").write_text("\n".join([*lines[:at], line[:cut], *lines[at:]]))
            with pytest.raises(UserMistake, match=f"trace:{at + 1}: found"):
                load(tmp_path / "trace")


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 10**30])
def test_a_block_event_beyond_any_device_is_refused(tmp_path: Path, number: int) -> None:
    for where in ("2048", "+ 8"):
        (tmp_path / "trace").write_text(FTRACE.replace(f" {where} ", f" {'+ ' * ('+' in where)}{number} "))
        with pytest.raises(UserMistake, match=r"is beyond any device|trace:4: found"):
            load(tmp_path / "trace")


def test_a_command_s_bytes_are_passed_over(tmp_path: Path) -> None:
    command = "s-1 [001] d..1. 100.0: block_rq_issue: 8,0 N 36 (4a 01 00 + 10 00) 0 + 0 none,0,0 [s]\n"
    write = command.replace(" N 36 ", " WS 4096 ").replace(" 0 + 0 ", " 2048 + 8 ")
    (tmp_path / "trace").write_text(command + write)
    found = load(tmp_path / "trace")
    assert rows(found) == [WRITE] and found.skipped == {"no data or passed through": 1}


def test_columns_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text("when,what,where,how much\n0.5,WRITE,2048,8\n0.6,read,4096,128\n0.7,trim,0,8\n")
    found = load(path, reading=Reading(columns=["time", "op", "sector", "sectors"]))
    assert rows(found) == [WRITE, READ] and found.skipped == {"trim": 1}
    assert found.time_ns is not None and found.time_ns.tolist() == [0, 100_000_000]
    with pytest.raises(UserMistake, match="no column is called 'wher'"):
        load(path, reading=Reading(columns=["time", "op", "wher", "sectors"]))
    with pytest.raises(UserMistake, match="expected size or sectors once"):
        load(path, reading=Reading(columns=["time", "op", "sector"]))
    with pytest.raises(UserMistake, match="name its columns with --columns"):
        load(path)


@pytest.mark.parametrize(
    ("text", "names", "later_ns"),
    [
        ("77 9 2048 8 W 6\n81 9 4096 128 R 6\n", "time,-,sector,sectors,op", 4 * 10**9),
        ("at op where bytes\n0.1\tw 1048576  4096\n 0.2 r 2097152 65536 x\n", "time,op,offset,size", 10**8),
        ("1,1577808144360767.5,1048576,4096\n0,1577808144360771.5,2097152,65536\n", "op,time,offset,size", 4000),
    ],
)
def test_blanks_between_columns_and_times_in_ticks(tmp_path: Path, text: str, names: str, later_ns: int) -> None:
    (tmp_path / "trace").write_text(text)
    found = load(tmp_path / "trace", reading=Reading(columns=names.split(",")))
    assert rows(found) == [WRITE, READ] and found.time_ns is not None and found.time_ns[1] == later_ns
    assert ("1 as a write" in str(found.notes)) == names.startswith("op")
    assert ("ticks of 1,000 ns" in str(found.notes)) == (later_ns == 4000)


@pytest.mark.parametrize("line", ["1,r,99999999999999999999,4096", "1,r,12.5,4096", "9999999999999999999,r,0,4096"])
def test_a_first_line_with_numbers_is_no_line_of_names(tmp_path: Path, line: str) -> None:
    (tmp_path / "trace").write_text(f"{line}\n2,r,4096,4096\n")
    with pytest.raises(UserMistake, match=f"trace:1: found '{line}'"):
        load(tmp_path / "trace", reading=Reading(columns=["time", "op", "offset", "size"]))


def test_what_is_copied_along_from_a_terminal_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(f"# biosnoop -d vda\n{BIOSNOOP}\n[...]\n")
    assert rows(load(tmp_path / "trace")) == [WRITE, READ]


def record(action: int, sector: int, size: int, time: int, extra: bytes = b"") -> bytes:
    head = struct.pack("<IIQQIIIIIHH", 0x65617407, 1, time, sector, size, action, 1201, 8 << 20, 0, 0, len(extra))
    return head + extra


def test_a_binary_block_trace(tmp_path: Path) -> None:
    queue, read, write = 1, 1 << 16, 1 << 17
    data = record(1 << 26, 0, 0, 0, b"fio\0") + record(queue | write, 2048, 4096, 5) + record(7 | write, 2048, 4096, 6)
    (tmp_path / "trace").write_bytes(data + record(queue | read, 4096, 65536, 9))
    found = load(tmp_path / "trace")
    assert rows(found) == [WRITE, READ] and found.time_ns is not None and found.time_ns.tolist() == [0, 4]
    (tmp_path / "trace").write_bytes(data + b"\0" * 48)
    with pytest.raises(UserMistake, match="is no record of a block trace"):
        load(tmp_path / "trace")


def test_pipes_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=(tmp_path / "pipe").write_text, args=[MSR])
    thread.start()
    assert rows(load(tmp_path / "pipe")) == [WRITE, READ]
    thread.join()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(QEMU.encode())))
    assert rows(load("-")) == [WRITE, READ]
