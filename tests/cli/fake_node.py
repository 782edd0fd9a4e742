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
from raftmq.v1 import broker_pb2, broker_pb2_grpc


def main() -> None:
    arguments = dict(zip(sys.argv[-4::2], sys.argv[-3::2], strict=True))
    cluster = config.load(arguments["--config"])
    node = cluster.node(int(arguments["--node"]))
    misbehaviour = {path.suffix for path in node.data_directory.parent.glob(f"{node.data_directory.name}.*")}
    if ".broken" in misbehaviour:
        sys.exit("cannot start: the disk is upside down")
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if ".deaf" in misbehaviour else lambda *_: stopped.set())

    def answer(
        _request: broker_pb2.GetMetadataRequest, _context: grpc.ServicerContext
    ) -> broker_pb2.GetMetadataResponse:
        nodes = [broker_pb2.NodeInfo(node_id=entry.id) for entry in cluster.nodes]
        return broker_pb2.GetMetadataResponse(nodes=nodes, controller_node_id=0 if ".alone" in misbehaviour else 1)

    server = grpc.server(ThreadPoolExecutor(1))
    servicer = broker_pb2_grpc.BrokerServicer()
    servicer.GetMetadata = answer  # type: ignore[method-assign]
    broker_pb2_grpc.add_BrokerServicer_to_server(servicer, server)
    server.add_insecure_port(str(node.client_bind))
    server.start()
    print(f"node {node.node_id} is up", flush=True)
    stopped.wait()
    server.stop(None)


main()
