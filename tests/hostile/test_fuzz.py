"""Any request to any method: answered or refused, never INTERNAL; what is refused has changed nothing.

``FUZZ_EXAMPLES`` says how many requests each method gets (`make fuzz`: many). With it, requests whose answers were new
are added to the corpus, which every run sends again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from raftmq.controller.controller import ALLOCATE_PRODUCER_IDS, REGISTER_NODE
from raftmq.errors import InternalError, Outcome, RaftmqError
from raftmq.internal.v1 import peer_pb2, storage_pb2
from tests.hostile.messages import damaged, requests
from tests.hostile.node import METHODS, Node

pytestmark = pytest.mark.integration

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
CORPUS = Path(__file__).parent / "corpus"
CORPUS_BYTES_MAX = 2_048
WAIT_S = 1.0
"""What a request may wait for records or leaders; more than that, it has hung, or the machine was very busy."""
STREAM_S = 0.1
"""A stream stays open as long as its client likes: so long here."""
TRIES = 3
"""What changes meanwhile by itself does so once in a while, and not each time."""
OF_NODES = (REGISTER_NODE, ALLOCATE_PRODUCER_IDS)
FORWARD, SEND = "/raftmq.internal.v1.Peer/Forward", "/raftmq.internal.v1.Peer/Send"

_answers: set[tuple[str, str, str]] = set()


def attempt(node: Node, method: str, messages: Sequence[bytes]) -> RaftmqError | None:
    """Send `messages`, and check what must hold whatever they are."""
    streams = METHODS[method].client_streaming
    for _ in range(TRIES):
        before = node.state()
        error = node.call(method, messages, timeout=STREAM_S if streams else WAIT_S).error
        assert not isinstance(error, InternalError), error
        if error is None or error.outcome is not Outcome.NOT_APPLIED or streams:
            break
        after = node.state()
        assert records_of(after) == records_of(before), error
        if after == before:
            break
    else:
        raise AssertionError(f"whenever this is refused, something is replicated all the same: {error!r}")
    node.canary()
    return error


def records_of(state: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """The state without commands, which come by themselves too: leases of earlier requests end, members are missed."""
    return [(replica[0], replica[4]) if len(replica) > 1 else replica for replica in state]


def keep(method: str, messages: Sequence[bytes], error: RaftmqError | None) -> None:
    """Add to the corpus what was answered in a new way."""
    answer = (method, error.reason if error else "", error.field if error else "")
    size = sum(map(len, messages))
    if EXAMPLES and answer not in _answers and len(messages) == 1 and 0 < size <= CORPUS_BYTES_MAX:
        name = hashlib.sha256(messages[0]).hexdigest()[:12]
        directory = CORPUS / method.rsplit(".", 1)[1].replace("/", ".")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.bin").write_bytes(messages[0])
    _answers.add(answer)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_any_request_is_answered_or_refused(node: Node, method: str) -> None:
    @settings(
        max_examples=EXAMPLES or 8,
        derandomize=not EXAMPLES,
        database=None,
        phases=(Phase.generate, Phase.shrink) if EXAMPLES else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        request = data.draw(requests(method))
        for field in request.DESCRIPTOR.fields:
            if field.name == "cluster_id" and data.draw(st.booleans()):
                request.cluster_id = node.cluster_id
        body = request.SerializeToString()
        if data.draw(st.integers(0, 3)) == 0:
            body = data.draw(damaged(body))
        messages = [body]
        if METHODS[method].client_streaming:
            messages += [one.SerializeToString() for one in data.draw(st.lists(requests(method), max_size=2))]
        if method == SEND and data.draw(st.booleans()):
            messages.insert(0, _hello(node))
        keep(method, messages, attempt(node, method, messages))

    run()


def test_any_call_that_another_node_hands_on(node: Node) -> None:
    """To methods of clients, and to those that only nodes have."""

    @settings(
        max_examples=4 * EXAMPLES or 40,
        derandomize=not EXAMPLES,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        method = data.draw(st.sampled_from([*sorted(METHODS), *OF_NODES, "", "/", "nothing"]))
        made = requests(method) if method in METHODS else st.just(storage_pb2.ProducerIdsAllocated(node=1, first=1))
        body = data.draw(made).SerializeToString()
        if method not in METHODS or data.draw(st.booleans()):
            body = data.draw(damaged(body))
        call = peer_pb2.ForwardRequest(
            cluster_id=node.cluster_id,
            from_node=data.draw(st.integers(0, 9)),
            request=body,
            method=method,
            remaining_ms=data.draw(st.sampled_from([0, 1, 500, 2**32 - 1])),
        )
        attempt(node, FORWARD, [call.SerializeToString()])

    run()


def test_the_corpus(node: Node) -> None:
    files = sorted(CORPUS.rglob("*.bin"))
    assert files
    for file in files:
        service, method = file.parent.name.split(".")
        package = "raftmq.internal.v1" if service == "Peer" else "raftmq.v1"
        attempt(node, f"/{package}.{service}/{method}", [file.read_bytes()])


def _hello(node: Node) -> bytes:
    """Of a node that is none of the cluster's, but knows its id."""
    hello = peer_pb2.Hello(
        cluster_id=node.cluster_id, boot_count=1, to_node=1, channel=peer_pb2.CHANNEL_RAFT, protocol_version=1
    )
    sender = getattr(hello, "from")
    sender.node, sender.store = 7, 7
    return peer_pb2.Frame(hello=hello).SerializeToString()
