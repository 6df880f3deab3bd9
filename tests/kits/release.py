"""The sdist and the wheel of this clone, as a release builds them."""

from pathlib import Path

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]


def wheel(where: Path, source: Path = ROOT) -> Path:
    """Of the clone, or of an unpacked sdist."""
    (made,) = WheelBuilder(str(source)).build(directory=str(where), versions=["standard"])
    return Path(made)


def sdist(where: Path) -> Path:
    """The source as it is published."""
    (made,) = SdistBuilder(str(ROOT)).build(directory=str(where), versions=["standard"])
    return Path(made)
