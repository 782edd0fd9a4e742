"""The shell around the consensus core: logs, state machines, producers that wait, liveness, and one pump for all of it.

Everything is synchronous but ``driver`` and ``host``, so that a simulator runs the code that runs in production::

    broker ──> host (await) ──> manager ──> group ──> raft.RaftNode (pure)
                                   │          ├── sealing, tail, readback, replication
                                   │          └── the state machine of the group (pure)
                                   ├── produce: admission, in_sync, waits
                                   ├── leading (who leads what), heartbeats (node to node), barriers (reads)
                                   └── round() ──> outbox ──> driver: storage thread, transport
"""
