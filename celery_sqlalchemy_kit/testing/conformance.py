"""What every store has to pass; with its parts the only modules that need pytest."""

from __future__ import annotations

import pytest

from .bench import Bench
from .claiming import ClaimingConformance
from .keeping import KeepingConformance
from .planning import PlanningConformance
from .publishing import PublishingConformance
from .registering import RegisteringConformance
from .sweeping import SweepingConformance
from .working import WorkingConformance


class StoreConformance(
    RegisteringConformance,
    ClaimingConformance,
    PlanningConformance,
    PublishingConformance,
    WorkingConformance,
    SweepingConformance,
    KeepingConformance,
):
    """Subclass it in a test module, with a fixture ``bench`` that makes a new `Bench` each time.

    ::

        class TestMyStore(StoreConformance):
            @pytest.fixture
            def bench(self, tmp_path):
                return MyBench(tmp_path)

    Begin its clock near the real present if anything in the storage reads the real one.
    """

    @pytest.fixture
    def bench(self) -> Bench:
        raise NotImplementedError("a subclass of StoreConformance has a fixture named bench")
