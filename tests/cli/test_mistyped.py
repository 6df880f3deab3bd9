"""Calls that cannot be meant: status 2, nothing done, and one line that says what to do instead."""

import re
import shlex
from pathlib import Path

import pytest

from pagewarden.cost import load_profile
from pagewarden.cost.library import to_toml
from verbs import Verb

ROOT = Path(__file__).parents[2]
CALLS = [line for line in (Path(__file__).parent / "mistyped.txt").read_text().splitlines() if line and line[0] != "#"]
MAPPING = "dma_map_page: 0000:00:03.0 dir=FROM_DEVICE dma_addr=7d004000 size=4096 phys_addr=5000 attrs="
NEXT_STEP = re.compile(r"; |\bexpected\b|\bthere are\b|\bgive\b|\bask for\b|\buse\b|\bsee\b")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the names in capitals stand for."""
    place = tmp_path_factory.mktemp("mistyped")
    profile = to_toml(load_profile("vmx-skylake"))
    texts = {
        "EMPTY": "",
        "BINARY": bytes(range(256)).decode("latin-1") * 8,
        "PROSE": "It was a dark night.\nThe rain fell.\n",
        "TOML": "a = 1\n",
        "JSON": '{"a": 1}',
        "BAD_JSON": '{"a": ',
        "BAD_TOML": "a = = 1\n",
        "JOB": "[global]\nsize=64k\nbs=4k\nrw=write\n[a]\n[b]\n",
        "CSV": "1.0,R,0,4096\n2.0,W,4096,4096\n",
        "DMA": f"dd-172     [000] d..1.     3.256422: {MAPPING}\n",
        "MODEL": "model",
        "UNKNOWN_KEY": profile.replace("about", "abuot", 1),
        "UNKNOWN_PRICE": profile + "\nnonsense_ns = 5\n",
        "NEGATIVE": re.sub(r"low_ns = (\d)", r"low_ns = -\1", profile, count=1),
    }
    for name, text in texts.items():
        (place / name).write_text(text, "latin-1")
    (place / "DIRECTORY").mkdir()
    made = {name: str(place / name) for name in (*texts, "DIRECTORY", "MISSING", "NEW")}
    return made | {"TRACE": str(ROOT / "examples" / "randrw.iolog")}


def wrong(verb: Verb, call: str, files: dict[str, str]) -> str:
    """What is wrong with how such a call ended; empty when nothing is."""
    names = re.compile(rf"({'|'.join(files)})(?=$|/)")
    ended = verb(*(names.sub(lambda found: files[found[1]], word) for word in shlex.split(call)), code=None)
    line = ended.stderr.removesuffix("\n")
    good = line.startswith("pagewarden: ") and "\n" not in line and NEXT_STEP.search(line)
    return "" if ended.status == 2 and good and not ended.stdout else f"{call}: {ended}"


def test_a_call_that_cannot_be_meant_is_one_line_and_no_more(verb: Verb, files: dict[str, str]) -> None:
    assert len(CALLS) > 350 and len(set(CALLS)) == len(CALLS)
    assert not list(filter(None, (wrong(verb, call, files) for call in CALLS)))
    assert not Path(files["NEW"]).exists() and not Path(files["MISSING"]).exists()
    assert Path(files["EMPTY"]).stat().st_size == 0, "a disk was written to"
