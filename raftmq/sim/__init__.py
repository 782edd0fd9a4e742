"""Deterministic simulation: a whole cluster under virtual time, hurt in every way that one seed can think of."""
