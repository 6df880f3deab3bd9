"""A profile that `pagewarden calibrate` wrote once, on a virtual machine with Linux 6.18: it is data, not a bar."""

from pathlib import Path

import pytest

from pagewarden.cost import Profile, load_profile


@pytest.fixture(scope="session")
def recorded() -> Profile:
    return load_profile(Path(__file__).parent / "recorded.toml")
