"""DMA events: what the reader finds in small traces of each form, written for the purpose."""

import re
from pathlib import Path

import pytest

from pagewarden.studies.pool import pool_fit
from pagewarden.vocab import UserMistake
from pagewarden.workload import load
from pagewarden.workload.dma_mappings import FROM_DEVICE, TO_DEVICE, DmaMappings
from pagewarden.workload.load import load_any

FTRACE = """# tracer: nop
              dd-172     [000] d..1.     3.256421: swiotlb_bounced: dev_name: 0000:00:03.0 dma_mask=ffffffffffffffff dev_addr=5000 size=4096 FORCE
              dd-172     [000] d..1.     3.256422: dma_map_page: 0000:00:03.0 dir=FROM_DEVICE dma_addr=7d004000 size=4096 phys_addr=5000 attrs=
     kworker/1:1 x-9     [001] d..1.     3.256423: dma_map_phys: 0000:00:04.0 dir=TO_DEVICE dma_addr=6010 size=16 phys_addr=6010 attrs=SKIP_CPU_SYNC
          <idle>-0       [000] d.h2.     3.257000: dma_unmap_page: 0000:00:03.0 dir=FROM_DEVICE dma_addr=7d004000 size=4096 attrs=
          <idle>-0       [001] d.h2.     3.257001: block_rq_issue: 8,0 WS 4096 () 2048 + 8 [fio]
          <idle>-0       [001] d.h2.     3.257002: dma_unmap_phys: 0000:00:04.0 dir=TO_DEVICE dma_addr=6010 size=16 attrs=
"""  # noqa: E501
PERF = """dd 172 [000]     3.256421: swiotlb:swiotlb_bounced: dev_name: 0000:00:03.0 dma_mask=ffffffffffffffff dev_addr=5000 size=4096 FORCE
dd 172 [000]     3.256422:       dma:dma_map_page: 0000:00:03.0 dir=FROM_DEVICE dma_addr=7d004000 size=4096 phys_addr=5000 attrs=
kworker/1:1 x 9 [001]     3.256423:       dma:dma_map_phys: 0000:00:04.0 dir=TO_DEVICE dma_addr=6010 size=16 phys_addr=6010 attrs=
swapper 0 [000]     3.257000:     dma:dma_unmap_page: 0000:00:03.0 dir=FROM_DEVICE dma_addr=7d004000 size=4096 attrs=
swapper 0 [001]     3.257002:     dma:dma_unmap_phys: 0000:00:04.0 dir=TO_DEVICE dma_addr=6010 size=16 attrs=
"""  # noqa: E501
LIST = """ nvme-9 [002] ..... 1.000001: dma_map_sg: 0000:01:00.0 dir=TO_DEVICE nents=2/2 ents=2/2 dma_addrs={0x7d000000,0x7d002000} sizes={0x1000,0x200} phys_addrs={0x5000,0x9000} attrs=
 nvme-9 [002] ..... 1.000005: dma_unmap_sg: 0000:01:00.0 dir=TO_DEVICE phys_addrs={0x5000,0x9000} attrs=
"""  # noqa: E501


def read(tmp_path: Path, text: str) -> DmaMappings:
    file = tmp_path / "trace"
    file.write_text(text)
    found = load_any(file)
    assert isinstance(found, DmaMappings)
    return found


@pytest.mark.parametrize("text", [FTRACE, PERF, FTRACE.rstrip("\n"), FTRACE.replace("\n", "\r\n")])
def test_mappings_of_two_devices(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text)
    devices = [found.devices[at] for at in found.device.tolist()]
    assert devices == ["0000:00:03.0", "0000:00:04.0", "0000:00:03.0", "0000:00:04.0"]
    assert found.opens.tolist() == [True, True, False, False] and found.maker.tolist() == [-1, -1, 0, 1]
    assert found.size.tolist() == [4096, 16, 4096, 16] and found.direction.tolist() == [FROM_DEVICE, TO_DEVICE] * 2
    assert found.bounced.tolist() == [True, False, True, False] and found.cpu.tolist() == [0, 1, 0, 1]
    assert (found.time_ns - found.time_ns[0]).tolist() == [0, 1000, 578000, 580000]
    assert found.address[:2].tolist() == [0x7D004000, 0x6010] and found.origin[:2].tolist() == [0x5000, 0x6010]
    assert not found.unmatched
    assert found.of_device("0000:00:04.0").maker.tolist() == [-1, 0]


def test_a_scatter_list_is_a_mapping_an_element(tmp_path: Path) -> None:
    found = read(tmp_path, LIST)
    assert found.opens.tolist() == [True, True, False, False] and found.maker.tolist() == [-1, -1, 0, 1]
    assert found.size.tolist() == [4096, 512, 4096, 512] and found.bounced.all(), "it lies elsewhere"
    assert "no swiotlb_bounced" in " ".join(found.notes)


def test_a_mapping_that_failed_is_none(tmp_path: Path) -> None:
    found = read(tmp_path, FTRACE.replace("dma_addr=7d004000", "dma_addr=ffffffffffffffff"))
    assert found.failed.tolist()[0] and found.made.sum() == 1


def test_losses_are_said(tmp_path: Path) -> None:
    found = read(tmp_path, FTRACE + "CPU:0 [LOST 12 EVENTS]\n" + FTRACE.splitlines()[4] + "\n")
    assert found.lost == 12 and found.unmatched == 1 and "12 events were lost" in " ".join(found.notes)


@pytest.mark.parametrize("text", [FTRACE, PERF, LIST], ids=["ftrace", "perf", "list"])
def test_an_event_that_breaks_off_anywhere_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    """From within its name to its last number; the line behind it is whole."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        name = re.search(r"(dma_|swiotlb)\w+: ", line)
        if name is None:
            continue
        stop = line.rindex(" ") - (text is LIST)  # a list is whole with its bracket
        for cut in (*range(name.start() + 5, name.end() + 3), *range(name.end() + 3, stop, 7), stop):
            (tmp_path / "trace").write_text("\n".join([*lines[:at], line[:cut], *lines[at:]]))
            with pytest.raises(UserMistake, match=f"trace:{at + 1}: found"):
                load_any(tmp_path / "trace")


def test_what_never_ends_is_counted_and_said(tmp_path: Path) -> None:
    whole, cut = read(tmp_path, FTRACE), read(tmp_path, "\n".join(FTRACE.splitlines()[:4]))
    assert (whole.unended, cut.unended) == (0, 2)
    assert pool_fit(cut).notes[-1] == "1 mappings never ended in the trace: their slots are held to its end"
    assert not any("never ended" in note for note in pool_fit(whole).notes)


def test_a_trace_without_a_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("\n".join(FTRACE.splitlines()[:2]) + "\n")
    with pytest.raises(UserMistake, match="no DMA mapping in it"):
        load_any(tmp_path / "trace")


def test_who_wants_requests_is_told(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(FTRACE)
    with pytest.raises(UserMistake, match="DMA mappings, not requests"):
        load(tmp_path / "trace")
