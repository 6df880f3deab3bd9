"""The words everything else is written in: addresses, units, errors, events. Imports nothing of the package."""

from pagewarden.vocab.addresses import HUGE_PAGE, PAGE_SIZE, PageRange
from pagewarden.vocab.errors import InternalError, PagewardenError, PrivateAccess, Refused, Unavailable, UserMistake
from pagewarden.vocab.events import EDGES, Event
from pagewarden.vocab.exits import Exit, ExitKind, GuestStopped
from pagewarden.vocab.names import did_you_mean, one_of
from pagewarden.vocab.progress import Advance, Progress

__all__ = [
    "EDGES",
    "HUGE_PAGE",
    "PAGE_SIZE",
    "Advance",
    "Event",
    "Exit",
    "ExitKind",
    "GuestStopped",
    "InternalError",
    "PageRange",
    "PagewardenError",
    "PrivateAccess",
    "Progress",
    "Refused",
    "Unavailable",
    "UserMistake",
    "did_you_mean",
    "one_of",
]
