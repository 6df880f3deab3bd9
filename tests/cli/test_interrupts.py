"""Ctrl-C wherever it strikes."""

import time

import pytest

from pagewarden.cli import limited, status
from verbs import Verb


class Lost:
    """An interrupt strikes in its finalizer, where Python tells of it and goes on."""

    def __del__(self) -> None:
        raise KeyboardInterrupt


def test_what_strikes_in_a_finalizer_comes_again(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        Lost()
        time.sleep(60)

    with status._interrupts_kept(), pytest.raises(KeyboardInterrupt):
        work()
    assert not capfd.readouterr().err


def test_what_strikes_before_a_verb_begins_is_one_too(verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    def struck() -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(limited, "available", struck)
    ended = verb("list", code=130)
    assert not ended.stdout and not ended.stderr
