"""``raftmq bench``: how fast, beside how fast the machine would let it be.

    command.py  one subcommand per benchmark, and ``all`` for the table in the README
    common.py   what all subcommands share: options, where it runs, what is printed
    stage.py    the cluster that is measured: one of its own in a fresh directory, or a running one
    workers.py  load runs in processes of its own, which all begin at one word
    producing.py, consuming.py, queueing.py    the loads that several benchmarks use
    produce.py consume.py end_to_end.py latency.py calls.py queue.py failover.py idle.py restart.py soak.py
    floor.py    the benchmarks
    usage.py    CPU, memory and bytes written of the nodes, from /proc
    figures.py  from times to percentiles and series, as pure functions
    result.py chart.py readme.py machine.py    what is said of it, and where

Rules that hold for all of them:

* What was counted is looked for afterwards (offsets, or reading it back); a benchmark whose records are not there ends
  with exit code 1 whatever its speed.
* The floor is measured in the same run: a bare gRPC echo between two processes, and fdatasync in the data directory. A
  figure without its floor says more about the machine than about raftmq.
* A latency is from handing in to the answer, in a closed loop whose depth is printed with it; percentiles are over
  records, each with the latency of its batch.
* Times are CLOCK_MONOTONIC, which all processes of a machine share, so that one can stamp and another read.
"""
