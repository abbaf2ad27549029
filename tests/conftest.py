"""Settings of all tests. Literal frames are plain functions in ``frames_of``."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Other work on the machine is no fault of the code: examples are counted, not timed.
settings.register_profile("kfws", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kfws")
