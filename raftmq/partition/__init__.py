"""The state of one partition, pure: producers, log start and clocks, replayed from its committed log."""
