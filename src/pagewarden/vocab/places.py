"""Where files of the user's lie (XDG base directories)."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """What can be made again, of this user: it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".cache") / "pagewarden"  # a relative one is ignored
