"""Deterministic simulation: a whole cluster under virtual time, hurt in every way that one seed can think of.

``Cluster`` is for your own tests; ``raftmq sim`` runs seeds. See README.md for how it works and what it has found.
"""

from raftmq.sim.playground import Cluster

__all__ = ["Cluster"]
