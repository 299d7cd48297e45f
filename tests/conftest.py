"""Settings for every test.

Hypothesis looks at few examples, and never at the clock. Tests run side by side
(``-n 3``), but for those that share a SLURM or need a lot of memory.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "modest",
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("modest")


LARGE = "test_more_than_two_gibibytes"
"""The test that needs gigabytes: one of them at a time."""


@pytest.hookimpl(optionalhook=True)  # there may be no xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep together what cannot run side by side: SLURM's tests share a cluster.

    ``xdist_group`` marks and ``--dist loadgroup`` have no effect with pytest 9.2, whose
    items xdist 3.8 cannot rename.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            if "/slurm/" in nodeid:
                return "slurm"
            return LARGE if LARGE in nodeid else nodeid

    return Scheduling(config, log)
