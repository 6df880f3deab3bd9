"""The options that a section of a job file gives, with fio's units."""

import re
from collections.abc import Mapping

from pagewarden.workload.fio.options import known
from pagewarden.workload.fio.sections import Section
from pagewarden.workload.fio.units import MAX, whole

OF_DEVICE = re.compile(r"(\d+)(%+|z)")


class SectionOptions:
    """A section's options with fio's units, and what has to be said of them."""

    def __init__(self, section: Section, notes: dict[str, None]) -> None:
        self.section, self.given, self.notes = section, section.options, notes
        self.kb_base = int(self.choice("kb_base", "1024", ("1024", "1000")))

    def note(self, text: str) -> None:
        """Once, whatever job it is about."""
        self.notes[text] = None

    def number(self, key: str, default: int, low: int = 0, high: int = MAX) -> int:
        option = self.given.get(key)
        return default if option is None else whole(option, None, self.kb_base, low, high)

    def choice(self, key: str, default: str, allowed: Mapping[str, object] | frozenset[str] | tuple[str, ...]) -> str:
        option = self.given.get(key)
        if option is None:
            return default
        if option.value is None or option.value not in allowed:
            option.refuse(f"{key} as one of {', '.join(sorted(allowed))}")
        return option.value

    def set(self, key: str) -> bool:
        """Is the option there, with a value that does something?"""
        option = self.given.get(key)
        return option is not None and option.value not in known().neutral.get(key, ("0",))

    def of_device(self, key: str) -> int | None:
        """N of a value N% (of the file or device) or Nz (zones): only the device says how much that is."""
        option = self.given.get(key)
        match = OF_DEVICE.fullmatch(option.value or "") if option else None
        return int(match[1]) if match else None
