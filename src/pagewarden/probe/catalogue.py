"""All paths. Importing a family enters it into the registry; a host side imports only the family that it needs."""

from pagewarden.probe.paths import advice, direct, dump, faults, machine, mappings, peers, pipes, reopen, streams, uring
from pagewarden.probe.registry import REGISTRY, Direction, Path

FAMILIES = (streams, pipes, direct, uring, peers, mappings, advice, reopen, faults, machine, dump)
PATHS: dict[tuple[str, Direction], Path] = {
    key: path for family in FAMILIES for key, path in REGISTRY.paths.items() if path.module == family.__name__
}
"""All paths by (name, direction), family by family."""
