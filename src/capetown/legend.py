"""Classes of a map and their colours, for the report and for GIS programs."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

# From few to many, on light and on dark screens.
QUANTITIES = (
    ("#fdeccb", "#4b2a2e"), ("#fbd391", "#6f3030"), ("#f7b05b", "#983c30"),
    ("#ee8433", "#c25532"), ("#d95b2b", "#e37d3c"), ("#b0372a", "#f6ad5c"),
    ("#7a1c2b", "#fde3a4"),
)  # fmt: skip
# The lines between hexagons.
EDGE = ("#fbfaf7", "#1f2a31")
# Classes of a map at most.
STEPS = len(QUANTITIES)


def count_breaks(most: int) -> list[int]:
    """Lower bounds of up to `STEPS` classes of counts from 1 to `most`: 1, 2, 5, 10 and so on."""
    steps = [step * 10**power for power in range(12) for step in (1, 2, 5)]
    reached = [step for step in steps if step <= max(1, most)]
    chosen = np.linspace(0, len(reached) - 1, min(STEPS, len(reached))).round()
    return [reached[int(at)] for at in chosen]


def expected_classes(most: float) -> tuple[list[float], list[str]]:
    """Lower bounds and words of classes of expected numbers from 0 to `most`."""
    bounds = count_breaks(round(most))[1:]
    return [0, *bounds], ranges(bounds) if bounds else ["under 2"]


def ranges(bounds: Sequence[float], unit: str = "") -> list[str]:
    """Classes between bounds, in words: under 5 %, 5 to 10 %, 10 % or more."""
    between = [f"{low:g} to {high:g}{unit}" for low, high in pairwise(bounds)]
    return [f"under {bounds[0]:g}{unit}", *between, f"{bounds[-1]:g}{unit} or more"]
