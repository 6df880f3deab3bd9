"""fio's options, sorted by what they do to the requests: `options.toml`, read once."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Known(NamedTuple):
    """fio's options from 3.33 on. Every name stands in exactly one of used, free, noted and refused."""

    aliases: dict[str, str]
    used: frozenset[str]
    free: frozenset[str]  # of all jobs and of engines: they leave size, direction and number of the requests alone
    noted: dict[str, str]  # accepted, with a word about what is lost
    refused: dict[str, str]  # would change the requests, and why that is not modelled
    neutral: dict[str, frozenset[str]]  # values with which an option does nothing
    synchronous: frozenset[str]  # engines with one request in flight whatever iodepth says (fio's manual, iodepth)
    asynchronous: frozenset[str]
    external: frozenset[str]  # of the asynchronous ones, those with options of their own
    idle: frozenset[str]  # engines that move no data of a file or device

    @property
    def names(self) -> frozenset[str]:
        """Every name of an option, aliases included."""
        return self.used | self.free | self.noted.keys() | self.refused.keys() | self.aliases.keys()

    @property
    def engines(self) -> frozenset[str]:
        """Engines whose requests can be said."""
        return self.synchronous | self.asynchronous


@cache
def known() -> Known:
    """What the table says."""
    table = tomllib.loads(files("pagewarden.workload.fio").joinpath("options.toml").read_text())
    options, engines = table["options"], table["engines"]
    return Known(
        table["aliases"],
        frozenset(options["used"].split()),
        frozenset(f"{options['free']} {options['engine']}".split()),
        table["noted"],
        table["refused"],
        {key: frozenset(values) for key, values in table["neutral"].items()},
        frozenset(engines["synchronous"].split()),
        frozenset(engines["asynchronous"].split()),
        frozenset(engines["external"].split()),
        frozenset(engines["idle"].split()),
    )
