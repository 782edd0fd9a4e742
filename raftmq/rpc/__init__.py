"""gRPC between the nodes of one cluster, behind ``ports.Transport``.

transport    the peers of this node: links that it dials, and calls
peer_stream  one outgoing stream: bounded queue (outbox), redial, proof that a peer is gone (probe)
server       the listener: streams that peers opened, forwarded calls, "who are you?"
codec        frames and messages as protobuf, and back; what is malformed is dropped and counted
memory       the same port without sockets
"""
