"""What helps against an errno is what its path needs."""

import errno

import pytest

from pagewarden.vocab.host import in_words


@pytest.mark.parametrize(
    ("path", "helps"),
    [
        ("jobs.fio", "check the path"),
        ("/proc/self/pagemap", "check the path; it must be mounted"),
        ("/sys/kernel/mm", "check the path; it must be mounted"),
        (None, "check the path"),
    ],
)
def test_a_missing_file_is_no_missing_mount(path: str | None, helps: str) -> None:
    found = in_words(FileNotFoundError(errno.ENOENT, "No such file or directory", path))
    assert found == f"{path + ': ' if path else ''}No such file or directory; {helps}"
