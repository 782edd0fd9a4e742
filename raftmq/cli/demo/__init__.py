"""``raftmq demo``: the claim that no acknowledged record is lost, tried on real processes and real data.

dataset.py   rows of a file as records
place.py     a directory and ports for nodes of its own
run.py       produce, SIGKILL half way, restart, read back
checks.py    what is claimed, as pure functions
figures.py   what was measured, as pure functions
report.py    table and JSON
"""
