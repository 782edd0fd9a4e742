"""What holds for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# An example takes as long as the machine takes: a pause of a busy machine is no failure.
settings.register_profile("raftmq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("raftmq")
