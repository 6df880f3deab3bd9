"""The words everything else is written in: addresses, units, errors, events. Imports nothing of the package.

What stands below may be imported, and `host` (what a host refuses, in words), `places` (a user's own directories),
`compiled` (numba with a cache that nobody else can write), `closing`.

    from pagewarden.vocab import PageRange

    print(PageRange.covering(offset=5000, length=4096), PageRange.runs([1, 2, 3, 7]))
"""

from pagewarden.vocab.addresses import HUGE_PAGE, PAGE_SIZE, PageRange
from pagewarden.vocab.errors import InternalError, PagewardenError, PrivateAccess, Refused, Unavailable, UserMistake
from pagewarden.vocab.events import EDGES, Event
from pagewarden.vocab.exits import Exit, ExitKind, GuestStopped
from pagewarden.vocab.names import did_you_mean, one_of
from pagewarden.vocab.progress import Advance, Progress

__all__ = [
    "EDGES", "HUGE_PAGE", "PAGE_SIZE", "Advance", "Event", "Exit", "ExitKind", "GuestStopped", "InternalError",
    "PageRange", "PagewardenError", "PrivateAccess", "Progress", "Refused", "Unavailable", "UserMistake",
    "did_you_mean", "one_of",
]  # fmt: skip
