"""Every way the host could reach a page of its window, each tried for real (see `registry` for what a path is)."""

from pagewarden.live.paths import (  # each enters its family into the registry
    advice,
    direct,
    dump,
    faults,
    machine,
    mappings,
    peers,
    pipes,
    reopen,
    streams,
    uring,
)
from pagewarden.live.paths.registry import MARK, REGISTRY, SAMPLE, Attempt, Died, Direction, Path, Target

PATHS: dict[tuple[str, Direction], Path] = REGISTRY.paths
"""All paths by (name, direction)."""

__all__ = [
    "MARK", "PATHS", "SAMPLE", "Attempt", "Died", "Direction", "Path", "Target", "advice", "direct", "dump", "faults",
    "machine", "mappings", "peers", "pipes", "reopen", "streams", "uring",
]
