"""What operators see of a node: metrics, health and logs. Nothing here changes what a node does.

    GET /metrics   collecting: reads what the parts of the node have counted (on the event loop, microseconds a
                   replica), then renders it on a thread of its own
    GET /healthz   health: the process answers and its disk has not failed
    GET /readyz    health: send it traffic, or why not

    log lines      logs: a bounded queue and a thread, so that a sink that stops never stops the node

The parts count for themselves, in plain integers and ``measure.Distribution``; none of them knows of Prometheus, and
nothing is done per record.
"""
