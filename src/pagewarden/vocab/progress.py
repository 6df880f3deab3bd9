"""How far a long piece of work has come: whom it tells."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being counted, how many are done, and how many there are."""
Advance: TypeAlias = Callable[[int, int], None]
"""The same of one thing, which the caller has named."""
