"""Chaos experiments on real processes, each of which ends in a verdict.

    experiment (YAML)                                                        verdict.json  report.html
         │                                                                        ▲
         ▼                                                                        │
      engine ──> topology: nodes, toxiproxy-server, a proxy for every directed link
         ├─────> workloads ──> every operation ──┐                             checks
         ├─────> observer  ──> who leads what ───┼──> history.jsonl ──────────────┘
         └─────> faults    ──> inject, prove, heal ──> faults.jsonl

What makes a verdict worth something:

* *Unknown is a third outcome.* An operation is ``ok``, ``fail`` (surely not done) or ``info`` (nobody knows). The
  checks hold raftmq to exactly what it said.
* *A fault proves that it fired*: bytes that did not come through the proxy, a process in state T, an error counter
  of the shim. A run in which a fault did not fire is INVALID, however well the cluster did; so is one with too few
  operations, or in which a check found nothing to look at.
* *The history is kept*, and can be judged again by later and better checks: ``raftmq chaos check FOLDER``.

The package knows the client and the configuration, and nothing of what is inside a node, but for ``wrapped``, which
runs there and puts a layer around the receiver of frames. Processes are handed in (``nodes.Processes``).
"""
