"""The ``raftmq`` command: one module per family of commands; ``main.py`` puts them together.

    nodes.py      up, down, serve          topic.py    topic create, list, describe, delete
    produce.py    produce                  cluster.py  cluster status, transfer-leader
    consume.py    consume                  demo/       demo
    supervisor.py node processes on this machine; also what tests with real processes use
    runtime.py    event loop, common options, and how errors end a command (exits.py has the codes)

Results go to stdout, everything about them to stderr.
"""
