"""Profiles: strict files, honest ranges, settings, and where they are found."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewarden.cost import (
    Interval,
    Price,
    Profile,
    load_profile,
    parse,
    price,
    profile_directory,
    profile_names,
    shipped_profiles,
    to_toml,
)
from pagewarden.cost.names import HOPS, PRICES, REQUIRED, setting, unit
from pagewarden.vocab import UserMistake

SHIPPED = shipped_profiles()
TEXT = to_toml(SHIPPED[0])


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "pagewarden" / "profiles"
    folder.mkdir(parents=True)
    return folder


def changed(name: str, lines: str) -> str:
    """A valid profile with this price written otherwise."""
    head, _, rest = TEXT.partition(f"[prices.{name}]\n")
    return f"{head}[prices.{name}]\n{lines}\n\n" + rest[rest.index("\n[") + 1 :]


def test_all_are_there_under_their_names() -> None:
    shipped = {"vmx-skylake", "svm-epyc", "snp-epyc", "tdx-xeon", "pvm-nested", "arm64-kunpeng", "arm64-n1"}
    assert shipped <= set(profile_names())
    for profile in SHIPPED:
        assert load_profile(profile.name) == profile
        assert profile.origin == "shipped"
        assert set(REQUIRED) <= set(profile.prices) <= set(PRICES)


@pytest.mark.parametrize("profile", SHIPPED, ids=lambda p: p.name)
def test_a_number_has_a_source_and_a_guess_a_range_with_a_reason(profile: Profile) -> None:
    for entry in profile.prices.values():
        if entry.parameter:
            assert entry.value.low < entry.value.high and len(entry.why) > 10
        else:
            assert entry.value.exact and len(entry.source) > 10


@pytest.mark.parametrize(
    ("name", "round_trip"),
    [
        ("svm-epyc", 1255),
        ("snp-epyc", 3553),
        ("pvm-nested", 480),
        ("arm64-kunpeng", 408),
    ],
)
def test_a_hypercall_costs_what_its_source_measured(name: str, round_trip: float) -> None:
    profile = load_profile(name).with_settings({"hypercalls_ns": 0})
    counts = {"hops_by_edge": {"guest>hyp": 1, "hyp>guest": 1}, "hypercalls": 1}
    assert price(counts, profile) == (round_trip, round_trip)


def test_other_figures_stand_where_they_belong() -> None:
    arm, skylake = load_profile("arm64-kunpeng"), load_profile("vmx-skylake")
    assert sum(arm.prices[name].value.low for name in HOPS.values()) == 2306  # mmio to user space and back
    assert arm.prices["tlbi"].value == (890, 890)
    exits = [skylake.prices[HOPS[edge]].value for edge in ("guest>hyp", "hyp>guest")]
    assert sum(exit.low for exit in exits) == 460, "the hypercall of a Xeon 8269CY"
    assert sum(exit.high for exit in exits) == pytest.approx(1559 / 2.0, abs=0.6), "cycles of the TSC, at 2 GHz"
    n1 = load_profile("arm64-n1")
    assert sum(n1.prices[HOPS[e]].value.low for e in ("guest>hyp", "hyp>guest")) == 292, "an hvc"
    assert sum(n1.prices[name].value.low for name in HOPS.values()) == 1608, "mmio to user space and back: 1609"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT.replace("name =", "nam =", 1), "nam"),
        (TEXT + "\n[prices.tlb]\nns = 1\nsource = 's'\n", "did you mean 'tlbi'"),
        (TEXT.replace("[prices.tlbi]", "[prices.pins]"), "pins"),
        (TEXT[:400], ""),
        ("\x00", ""),
        ("", "name"),
        (changed("tlbi", "ns = 1"), "prices.tlbi"),
        (changed("tlbi", "ns = 1\nsource = ' '"), "source is blank"),
        (changed("tlbi", "ns = '1'\nsource = 's'"), "tlbi"),
        (changed("tlbi", "ns = true\nsource = 's'"), "tlbi"),
        (changed("tlbi", "ns = -1\nsource = 's'"), "0 or more"),
        (changed("tlbi", "ns = nan\nsource = 's'"), "0 or more"),
        (changed("tlbi", "ns = inf\nsource = 's'"), "0 or more"),
        (changed("tlbi", "us = 1\nsource = 's'"), "us"),
        (changed("tlbi", "ns_per_byte = 1\nsource = 's'"), "expected {ns, source}"),
        (changed("copy_warm", "ns = 1\nsource = 's'"), "expected {ns_per_byte, source}"),
        (changed("tlbi", "low_ns = 1\nhigh_ns = 2\nwhy = 'w'"), "expected"),
        (changed("tlbi", "parameter = true\nlow_ns = 3\nhigh_ns = 2\nwhy = 'w'"), "low not above high"),
        (changed("tlbi", "parameter = true\nlow_ns = 1\nhigh_ns = 2\nsource = 's'"), "expected"),
        (changed("tlbi", "cycles = 10\nsource = 's'"), "expected"),
        (changed("tlbi", "cycles = 10\nghz = 0\nsource = 's'"), "clock"),
        (changed("tlbi", "cycles = 10\nghz = -1\nsource = 's'"), "clock"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(UserMistake) as caught:
        load_profile(path)
    assert said in str(caught.value) and str(path) in str(caught.value)


def test_a_price_is_missing() -> None:
    start = TEXT.index("[prices.tlbi]")
    with pytest.raises(UserMistake, match="no price for tlbi"):
        parse(TEXT[:start] + TEXT[TEXT.index("[prices", start + 1) :], "x")


def test_cycles_become_ns() -> None:
    assert parse(changed("tlbi", "cycles = 1559\nghz = 2.5\nsource = 's'"), "x").prices["tlbi"].value == (623.6, 623.6)


def test_where_profiles_are_found(own_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_directory / "this-host.toml").write_text(TEXT)
    assert profile_directory() == own_directory
    assert "this-host" in profile_names()
    assert load_profile("this-host").origin == str(own_directory / "this-host.toml")
    (own_directory / "svm-epyc.toml").write_text(TEXT)
    assert load_profile("svm-epyc").prices == SHIPPED[0].prices  # the user's own goes first
    monkeypatch.chdir(own_directory)
    assert load_profile("this-host.toml").prices == load_profile("./this-host.toml").prices == SHIPPED[0].prices
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert profile_directory() == tmp_path / ".config" / "pagewarden" / "profiles"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("svm-epic", "did you mean 'svm-epyc'"),
        ("zzz", "there are arm64-kunpeng"),
        ("..", "there are"),
        ("", "there are"),
        ("missing.toml", "No such file"),
        ("/", "directory"),
        ("/dev/zero", "more than"),
    ],
)
def test_no_such_profile(name: str, said: str) -> None:
    with pytest.raises(UserMistake, match=said):
        load_profile(name)


def test_a_broken_own_profile_does_not_hide_the_others(own_directory: Path) -> None:
    (own_directory / "broken.toml").write_bytes(b"\xff\xfe")
    assert load_profile("svm-epyc").name == "svm-epyc"
    with pytest.raises(UserMistake, match=r"broken\.toml"):
        load_profile("broken")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tlbi": 1}, "did you mean 'tlbi_ns'"),
        ({"tlbi_us": 1}, "did you mean 'tlbi_ns'"),
        ({"nonsense": 1}, "no price is called"),
        ({"copy_warm_ns": 1}, "copy_warm_ns_per_byte"),
        ({"tlbi_ns": -1}, "0 or more"),
        ({"tlbi_ns": "abc"}, "0 or more"),
        ({"tlbi_ns": ""}, "0 or more"),
        ({"tlbi_ns": "1..2..3"}, "LOW..HIGH"),
        ({"tlbi_ns": "3..2"}, "LOW..HIGH"),
        ({"tlbi_ns": "nan"}, "0 or more"),
        ({"tlbi_ns": "1..inf"}, "0 or more"),
        ({"tlbi_ns": True}, "0 or more"),
    ],
)
def test_wrong_settings(settings: dict[str, float | str], said: str) -> None:
    with pytest.raises(UserMistake, match=said):
        SHIPPED[0].with_settings(settings)


def test_settings_replace_numbers_and_ranges() -> None:
    profile = SHIPPED[0].with_settings({"tlbi_ns": "500", "pins_ns": "1..2.5", "syscall_ioctl_ns": 3})
    assert profile.prices["tlbi"].value == (500, 500) and not profile.prices["tlbi"].parameter
    assert profile.prices["pins"].value == (1, 2.5) and profile.prices["pins"].parameter
    assert profile.prices["syscall_ioctl"].value == (3, 3)
    assert "tlbi" not in profile.parameters and "pins" in profile.parameters
    assert list(profile.prices) == [name for name in PRICES if name in profile.prices]
    assert parse(to_toml(profile), "x").prices == profile.prices


@given(
    st.text(max_size=30),
    st.text(min_size=1).filter(str.strip),
    st.sampled_from(PRICES),
    st.tuples(st.floats(0, 1e12), st.floats(0, 1e12)),
)
def test_what_is_written_is_read(about: str, why: str, name: str, bounds: tuple[float, float]) -> None:
    for parameter, value in ((True, Interval(min(bounds), max(bounds))), (False, Interval(bounds[0], bounds[0]))):
        made = Price(name, value, parameter, why.strip(), why.strip() if parameter else "")
        profile = replace(SHIPPED[0], about=about, prices={**SHIPPED[0].prices, name: made})
        again = parse(to_toml(profile), "shipped")
        assert dict(again.prices) == dict(profile.prices)
        assert again.name == profile.name


def test_units_are_in_the_keys() -> None:
    assert {unit(name) for name in PRICES} == {"ns", "ns_per_byte"}
    assert setting("tlbi") == "tlbi_ns" and setting("copy_cold") == "copy_cold_ns_per_byte"
