"""Stands in for ``python -m raftmq serve``: answers GetMetadata on the client port, and does nothing else.

Run as an interpreter would be: ``fake_node.py -m raftmq serve --node ID --config FILE``. A file beside the data
directory makes it misbehave: ``n1.deaf`` (SIGTERM is ignored), ``n1.broken`` (ends at once), ``n1.alone`` (knows
no controller).
"""

from __future__ import annotations

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

from raftmq import config
from raftmq.v1 import broker_pb2


def main() -> None:
    arguments = dict(zip(sys.argv[-4::2], sys.argv[-3::2], strict=True))
    cluster = config.load(arguments["--config"])
    node = cluster.node(int(arguments["--node"]))
    misbehaviour = {path.suffix for path in node.data_directory.parent.glob(f"{node.data_directory.name}.*")}
    if ".broken" in misbehaviour:
        sys.exit("cannot start: the disk is upside down")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ".deaf" in misbehaviour else lambda *_: stopped.set())

    nodes = [broker_pb2.NodeInfo(node_id=entry.id) for entry in cluster.nodes]
    answer = broker_pb2.GetMetadataResponse(nodes=nodes, controller_node_id=0 if ".alone" in misbehaviour else 1)
    method = grpc.unary_unary_rpc_method_handler(lambda _request, _context: answer.SerializeToString())
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("raftmq.v1.Broker", {"GetMetadata": method}),)
    )
    server.add_insecure_port(str(node.client_bind))
    server.start()
    print(f"node {node.node_id} is up", flush=True)
    while not stopped.wait(0.05):  # a handler runs only between waits: another thread may have got the signal
        pass
    server.stop(None)


main()
