"""The node's disk behind ``ports.Store``: RocksStore (rocks.py), and MemoryStore (memory.py) for simulation.

The README beside this file has the families, the rules with their reasons, and the tail marker's argument.
"""
