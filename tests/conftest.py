"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# An example takes as long as the machine takes: a pause of a busy machine is no failure.
settings.register_profile("raftmq", deadline=None)
settings.load_profile("raftmq")
