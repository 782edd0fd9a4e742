"""Where a published record goes. Pure: the image's exchanges in, topics and the way to them out; see README.md."""

from raftmq.exchanges.router import Route, Router, Step

__all__ = ["Route", "Router", "Step"]
