"""What a process gives up is counted by the kernel, or not at all."""

import errno

import pytest

from pagewarden.kernel import confine


def test_a_kernel_that_does_not_say_which_capabilities_there_are_is_not_taken_for_one_without_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def denied(option: int, *arguments: int) -> int:
        raise OSError(errno.EPERM, "a filter of the container")

    monkeypatch.setattr(confine, "prctl", denied)
    with pytest.raises(OSError, match="a filter"):
        confine.capabilities_left()
    with pytest.raises(OSError, match="a filter"):
        confine.drop_bounding_set()
