"""Pages of pictures, in a browser that is none of ours: they draw, filter, print, ask no network, log nothing."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from browser import Browser, browser
from pagewarden.report.documents.base import Document
from pagewarden.report.documents.compare import Compared
from pagewarden.report.documents.schemas import DOCUMENTS
from pagewarden.report.pages import compare, save_page
from pagewarden.report.pages.registry import PAGES
from pagewarden.report.probe import baseline
from pagewarden.studies.probe.said import read
from verbs import Verb, document

TINY = ("--pages", "1", "--vcpus", "1", "--stranger", "strace")
FAILS = ("--policy", "memfd", "--property", "host-never-reads-private")
EXAMPLE = str(Path(__file__).parents[2] / "examples" / "randrw.iolog")
EARLIER = Path(__file__).parents[1] / "lab" / "recorded" / "6.1.0-56-cloud-amd64.json"
RECORDED = Path(__file__).parents[1] / "lab" / "recorded" / "6.12.117+deb13-cloud-amd64.json"
HOSTILE = "</script><script>document.title='ran'</script><img src=x onerror=\"document.title='ran'\">"
MOST = 2_000_000
GRID = 'sizes = ["4k,64k"]\ndesigns = ["window", "bounce"]\n[set]\ntlbi_ns = [300, 1000]\n'


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def drawn(chromium: Browser, file: Path, charts: int) -> None:
    """In both colour schemes and on paper, without a word in the log."""
    assert file.stat().st_size < MOST
    inks = set()
    for scheme in ("light", "dark"):
        chromium.media(scheme)
        chromium.open(file)
        assert chromium.log == []
        assert chromium.value("views.length") == charts
        assert chromium.value("document.querySelectorAll('.chart svg .mark-text, .chart svg path').length") >= charts
        inks.add(chromium.value("getComputedStyle(document.body).color"))
    assert len(inks) == 2
    chromium.media("dark", "print")
    assert chromium.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.paper().startswith(b"%PDF")
    chromium.media("light")


def marks(chromium: Browser, kind: str) -> int:
    found = chromium.value(f"document.querySelectorAll('.chart .mark-{kind}.role-mark path').length")
    assert isinstance(found, int)
    return found


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("code", "charts", "arguments"),
    [
        (0, 2, ("compare", EXAMPLE)),
        (0, 1, ("compare", "--sizes", "4k,64k,1m")),
        (0, 0, ("compare", EXAMPLE, "--decide")),
        (0, 2, ("pool", EXAMPLE, "--depth", "4")),
        (0, 3, ("run", "--cpu", "interpreted", "--requests", "8")),
        (1, 1, ("check", *TINY, *FAILS)),
    ],
)
def test_a_verb_writes_a_page_that_draws(
    verb: Verb, chromium: Browser, tmp_path: Path, code: int, charts: int, arguments: tuple[str, ...]
) -> None:
    file = tmp_path / "page.html"
    said = verb(*arguments, "--json", "--html", str(file), code=code)
    drawn(chromium, file, charts)
    inside = chromium.value("document.getElementById('document').textContent")
    assert {"schema": 1, **msgspec.json.decode(inside)}.items() <= msgspec.json.decode(said.stdout).items()


def test_a_page_of_jobs_says_what_the_text_says(verb: Verb, tmp_path: Path) -> None:
    """Whole sentences first; reasons below the table, and no cost of what does not apply."""
    job = "rw=write\nbs=1m\nsize=1m\n"
    (file := tmp_path / "jobs.fio").write_text(f"[global]\ndirect=1\n[a]\n{job}[b]\nstonewall\n{job}")
    page = tmp_path / "page.html"
    for policy, answer in (("guest-memfd", "The cheapest is bounce, at every price of the profile, in each job."),
                           ("hybrid", "It is open between ")):  # fmt: skip
        verb("compare", str(file), "--policy", policy, "--html", str(page))
        text = re.sub(r"<(script|style).*?</\1>", "", page.read_text(), flags=re.DOTALL)
        assert f'<p class="answer">{answer}' in text
        assert "<p>dma-buffer does not apply: the job is direct I/O, without a page cache.</p>" in text
        assert "<p>note: requests are those of fio" in text and "<td>a</td>" in text.replace(' class="left"', "")
        assert ("<p>pread, splice: 2 of 2 requests fail. EINVAL: " in text) == (policy == "guest-memfd")
        charts = re.search(r'id="charts">(.*?)</script>', page.read_text())
        assert charts and "bounce" in charts[1] and "dma-buffer" not in charts[1]


def test_a_sweep_has_a_page(verb: Verb, chromium: Browser, tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(GRID)
    verb("sweep", str(tmp_path / "grid.toml"), "--html", str(tmp_path / "page.html"))
    drawn(chromium, tmp_path / "page.html", 2)
    assert marks(chromium, "rect") >= 2


def test_the_parts_of_a_cost_are_all_of_it(verb: Verb) -> None:
    for one in document(verb, "compare", EXAMPLE)["designs"]:
        for end in (0, 1):
            parts = sum(part[end] for part in one["ns_by_price"].values())
            assert parts == pytest.approx(one["ns_per_request_range"][end])


@pytest.mark.parametrize("platform", ["proposal", "sev-snp"])
def test_parts_of_a_cost_that_are_drawn_are_few_and_all_of_it(verb: Verb, platform: str) -> None:
    found = msgspec.json.decode(verb("compare", "--platform", platform, "--json").stdout, type=Compared)
    charts = [section.chart for section in compare.page(found).sections if "made of" in section.title]
    (chart,) = filter(None, charts)
    rows, colours = chart["data"]["values"], chart["encoding"]["color"]["scale"]["domain"]
    assert len({part for one in found.designs for part in one.ns_by_price}) > 10 >= len(colours)
    assert {row["part"] for row in rows} == {*colours} and "other" in colours
    for one in found.designs:
        for end in ("low", "high"):
            drawn_ = sum(row[end] for row in rows if row["design"] == one.name)
            assert drawn_ * 1000 == pytest.approx(sum(ends[end == "high"] for ends in one.ns_by_price.values()))


def test_the_pool_over_time_has_its_peak(verb: Verb) -> None:
    found = document(verb, "pool", EXAMPLE, "--depth", "4")
    numbers = [at for at, _ in found["over_time"]]
    assert max(slots for _, slots in found["over_time"]) == found["peak_slots"]
    assert numbers[0] == 0 and numbers == sorted(numbers) and numbers[-1] <= found["mappings"] and len(numbers) <= 1000
    share = sum(found["worst_moment"]) / len(found["worst_moment"])
    assert share * found["slots"] == pytest.approx(found["peak_slots"])


def test_a_counterexample_has_each_step_in_its_lane(verb: Verb, chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    said = msgspec.json.decode(verb("check", *TINY, *FAILS, "--json", "--html", str(file), code=1).stdout)
    chromium.open(file)
    steps = next(entry["trace"] for entry in said["properties"] if entry["trace"])
    seen = chromium.value(
        "[...document.querySelectorAll('.lanes tbody tr')].map(row => document.querySelectorAll('.lanes th')"
        "[row.querySelector('.act').cellIndex].textContent)"
    )
    assert seen == [step["actor"].partition(",")[0] for step in steps]
    assert chromium.value("document.querySelectorAll('.hostile').length") == sum(
        "stranger" in s["actor"] for s in steps
    )


@pytest.mark.usefixtures("few")
def test_a_cell_that_fails_leads_to_its_way(verb: Verb, chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    asked = ("--property", "host-never-reads-private", "--property", "no-pin-left")
    said = msgspec.json.decode(verb("check", "--matrix", *TINY, *asked, "--json", "--html", str(file)).stdout)
    ways = [
        (column["policy"], cell["name"], len(cell["trace"]))
        for column in said["policies"] for cell in column["properties"] if cell["verdict"] == "fails"
    ]  # fmt: skip
    assert ways and all(steps for *_, steps in ways)
    drawn(chromium, file, 2)
    for number, (policy, name, steps) in enumerate(ways):
        chromium.value(
            "new Promise(led => { addEventListener('hashchange', led, {once: true}); setTimeout(led, 5000);"
            "[...document.querySelectorAll('.chart .mark-text.role-mark text')].filter(mark => mark.textContent)"
            f"[{number}].dispatchEvent(new MouseEvent('click', {{bubbles: true}})); }}).then(() => 1)"
        )
        target = "document.querySelector(':target')"
        assert chromium.value(f"{target}.innerText").startswith(f"{policy}: {name} fails")
        assert chromium.value(f"{target}.querySelectorAll('.lanes tbody tr').length") == steps


def recorded() -> dict[str, Any]:
    """What a kernel under QEMU answered, as the document of `probe`."""
    found: dict[str, Any] = msgspec.json.decode(RECORDED.read_bytes())
    matrix = [{"law": None, "law_errno": None, "agrees": row["path"] != "fork", **row} for row in found["matrix"]]
    sums = dict.fromkeys(("leaks", "disagreements", "untried", "timeouts"), 0)
    return found | sums | {"matrix": matrix}


def page_of(name: str, content: dict[str, Any], file: Path) -> None:
    kind: type[Document] = DOCUMENTS[name]
    save_page(file, lambda: msgspec.convert(content, kind))


def test_the_trials_of_a_probe_are_filtered(chromium: Browser, tmp_path: Path) -> None:
    content = recorded()
    page_of("probe", content, tmp_path / "page.html")
    drawn(chromium, tmp_path / "page.html", 1)
    every = content["matrix"]
    assert marks(chromium, "rect") == len(every)
    for signal, value, left in (
        ("path", "mremap", [row for row in every if "mremap" in row["path"]]),
        ("backing", "memfd", [row for row in every if row["backing"] == "memfd" and not row["isolated"]]),
        ("result", "leak", [row for row in every if row["result"] == "LEAK"]),
        ("surprises", True, [row for row in every if row["path"] == "fork"]),
    ):
        was = chromium.value(f"views[0].signal('{signal}')")
        chromium.value(f"views[0].signal('{signal}', {msgspec.json.encode(value).decode()}).runAsync().then(() => 1)")
        assert 0 < len(left) < len(every)
        assert marks(chromium, "rect") == len(left), signal
        chromium.value(f"views[0].signal('{signal}', {msgspec.json.encode(was).decode()}).runAsync().then(() => 1)")


def test_two_kernels_stand_side_by_side(chromium: Browser, tmp_path: Path) -> None:
    before = read(EARLIER.read_bytes())
    beside = baseline(before, read(RECORDED.read_bytes()).endings)
    page_of("probe", recorded() | {"baseline": msgspec.to_builtins(beside)}, tmp_path / "page.html")
    drawn(chromium, tmp_path / "page.html", 1)
    assert marks(chromium, "rect") == len(recorded()["matrix"]) + len(before.matrix)
    chromium.value(f"views[0].signal('kernel', '{before.kernel} (baseline)').runAsync().then(() => 1)")
    assert marks(chromium, "rect") == len(before.matrix)


def made_of(schema: dict[str, Any], parts: dict[str, Any], text: str) -> Any:
    """A value of a schema, all of its texts this one."""
    match schema:
        case {"$ref": at}:
            return made_of(parts[at.rpartition("/")[2]], parts, text)
        case {"enum": [first, *_]}:
            return first
        case {"anyOf": kinds}:
            return made_of(next(kind for kind in kinds if kind.get("type") != "null"), parts, text)
        case {"prefixItems": kinds}:
            return [made_of(kind, parts, text) for kind in kinds]
        case {"items": kind}:
            return [made_of(kind, parts, text)]
        case {"properties": keys}:
            return {key: made_of(kind, parts, text) for key, kind in keys.items()}
        case {"additionalProperties": dict(kind)}:
            return {text: made_of(kind, parts, text)}
    return {"integer": 1, "number": 1.5, "boolean": False, "string": text, "object": {}, "array": []}[schema["type"]]


@pytest.mark.parametrize("name", [name for name, kind in DOCUMENTS.items() if kind.__name__ in PAGES])
def test_hostile_names_are_text_on_every_page(chromium: Browser, tmp_path: Path, name: str) -> None:
    schema = msgspec.json.schema(DOCUMENTS[name])
    file = tmp_path / "page.html"
    page_of(name, made_of(schema, schema["$defs"], HOSTILE), file)
    chromium.media("light")
    chromium.open(file)
    assert chromium.log == []
    assert chromium.value("document.title").startswith("pagewarden ")
    assert chromium.value("document.querySelectorAll('img').length") == 0


def test_a_page_that_cannot_be_written_is_known_before_the_work(verb: Verb) -> None:
    said = verb("compare", "--html", "/proc/none/page.html", code=2)
    assert "/proc/none/page.html" in said.stderr and not said.stdout


def test_without_the_library_it_says_what_to_install(
    verb: Verb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pagewarden.cli.given.find_spec", lambda _: None)
    assert "pip install 'pagewarden[html]'" in verb("compare", "--html", str(tmp_path / "p.html"), code=2).stderr
