"""What counts cost: price profiles, bills, break-even sizes.

What stands below may be imported, and `cost.names`, which has every price's name.

    from pagewarden.cost import load_profile, price

    print(price({"tlbi": 1, "pins": 4}, load_profile("vmx-skylake")), "ns")
"""

from pagewarden.cost.breakeven import LIMIT, BreakEven, Crossing, closed_form, search
from pagewarden.cost.interval import Interval
from pagewarden.cost.library import load_profile, profile_directory, profile_names, shipped_profiles, to_toml
from pagewarden.cost.price import (
    Amounts,
    Cache,
    Term,
    bill,
    contenders,
    difference,
    difference_bill,
    price,
    total_of,
    without_effect,
)
from pagewarden.cost.profile import Price, PriceSetting, Profile, parse
from pagewarden.cost.table import table

__all__ = [
    "LIMIT", "Amounts", "BreakEven", "Cache", "Crossing", "Interval", "Price", "PriceSetting", "Profile", "Term",
    "bill", "closed_form", "contenders", "difference", "difference_bill", "load_profile", "parse", "price",
    "profile_directory", "profile_names", "search", "shipped_profiles", "table", "to_toml", "total_of",
    "without_effect",
]  # fmt: skip
