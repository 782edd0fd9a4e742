"""``python -m raftmq`` is the ``raftmq`` command."""

from raftmq.cli.main import main

main()
