"""Settings for every test.

Hypothesis looks at few examples, and never at the clock. Tests run side by side
(``-n 3 --dist loadgroup``), but for those that share a SLURM or need a lot of memory.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "modest",
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("modest")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what cannot run side by side."""
    for item in items:
        if item.path.parent.name == "slurm":
            item.add_marker(pytest.mark.xdist_group("slurm"))
        elif item.get_closest_marker("large"):
            item.add_marker(pytest.mark.xdist_group("large"))
