"""What a benchmark tells of many values."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of *values* that is not exceeded by *share*, 0 to 1, of them; nan of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def lateness(seconds: Sequence[float], title: str = "late") -> dict[str, float]:
    """Figures of *seconds*, in milliseconds."""
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {
        f"{title} {name}, ms": round(percentile(seconds, share) * 1000, 2)
        for name, share in shares.items()
    }
