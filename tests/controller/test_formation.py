"""How a cluster comes to be: the decision, and the ways in which questions, answers and replaced disks interleave."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest

from raftmq.config import ClusterConfig
from raftmq.controller import joining
from raftmq.controller.formation import Formation, Waiting, cluster_id_of, decide, empty_answer
from raftmq.controller.joining import join, known_formation
from raftmq.errors import Unavailable
from raftmq.ids import NodeId, ReplicaId, StoreId
from raftmq.internal.v1 import peer_pb2
from raftmq.storage.memory import MemoryStore

NAME, SEED = "letters", b"seed of letters"
VOTERS = (NodeId(1), NodeId(2), NodeId(3))


def replica(node: int, store: int | None = None) -> ReplicaId:
    return ReplicaId(NodeId(node), StoreId(store if store is not None else 100 + node))


def formed(*members: ReplicaId, name: str = NAME) -> Formation:
    voters = tuple(sorted(members))
    return Formation(cluster_id_of(name, SEED, voters), SEED, voters)


def empty(node: int, store: int | None = None, seed: bytes = SEED) -> peer_pb2.IdentifyResponse:
    return empty_answer(replica(node, store), seed)


def decided(me: ReplicaId, answers: dict[int, peer_pb2.IdentifyResponse | None]) -> Formation | Waiting:
    return decide(NAME, SEED, me, VOTERS, {NodeId(node): answer for node, answer in answers.items()})


def reason(of: Formation | Waiting) -> str:
    assert isinstance(of, Waiting), of
    return of.reason


# -- the decision --------------------------------------------------------------------------------------------------


def test_all_empty_with_the_same_seed_form_the_cluster_and_all_of_them_the_same_one() -> None:
    each = [decided(replica(me), {other: empty(other) for other in (1, 2, 3) if other != me}) for me in (1, 2, 3)]
    assert each == [formed(replica(1), replica(2), replica(3))] * 3


@pytest.mark.parametrize(
    "answers, said",
    [
        ({2: empty(2)}, "node 3 does not answer yet"),
        ({2: empty(2), 3: None}, "node 3 does not answer yet"),
        ({2: empty(2), 3: empty(3, seed=b"another")}, "node 3 was started with another cluster.yml"),
        ({2: empty(2), 3: empty(2)}, "the peer address of node 3 is answered by node 2"),
    ],
)
def test_one_voter_that_is_not_empty_or_not_there_is_waited_for(
    answers: dict[int, peer_pb2.IdentifyResponse | None], said: str
) -> None:
    assert said in reason(decided(replica(1), answers))


def test_a_formation_that_names_this_very_disk_is_adopted_whoever_else_is_silent() -> None:
    cluster = formed(replica(1), replica(2), replica(3))
    assert decided(replica(3), {1: None, 2: cluster.answer(replica(2))}) == cluster


def test_a_replaced_disk_waits_to_be_re_admitted_and_says_so() -> None:
    cluster = formed(replica(1), replica(2), replica(3))
    waits = decided(replica(3, 999), {1: empty(1), 2: cluster.answer(replica(2))})
    assert "another disk" in reason(waits)
    assert "repair-node 3" in reason(waits)


def test_a_formation_that_names_this_disk_goes_before_one_that_does_not() -> None:
    """Only one of the two can have, or get, a majority: this disk was seen empty when the second was formed."""
    old, new = formed(replica(1), replica(2), replica(3)), formed(replica(1), replica(2), replica(3, 999))
    assert decided(replica(3, 999), {1: old.answer(replica(1)), 2: new.answer(replica(2))}) == new


def test_a_node_that_was_never_a_voter_waits_for_them_and_then_joins() -> None:
    cluster = formed(replica(1), replica(2), replica(3))
    assert "waiting for them" in reason(decided(replica(4), {1: empty(1), 2: empty(2), 3: empty(3)}))
    assert decided(replica(4), {1: cluster.answer(replica(1))}) == cluster


def test_a_newcomer_does_not_choose_between_clusters() -> None:
    one, two = formed(replica(1), replica(2), replica(3)), formed(replica(1), replica(2), replica(3, 999))
    waits = decided(replica(4), {1: one.answer(replica(1)), 2: two.answer(replica(2))})
    assert "different clusters" in reason(waits)


def test_a_cluster_of_another_name_is_not_joined() -> None:
    """An address of the file is wrong, and leads into somebody else's cluster."""
    foreign = formed(replica(1), replica(2), replica(3), name="numbers")
    for me in (replica(4), replica(3)):
        assert "another name" in reason(decided(me, {1: foreign.answer(replica(1))}))


def test_a_formation_behind_a_wrong_address_is_not_adopted() -> None:
    cluster = formed(replica(1), replica(2), replica(3))
    assert "answered by node 2" in reason(decided(replica(3), {1: cluster.answer(replica(2))}))


def test_the_cluster_id_tells_name_seed_and_every_pair_apart() -> None:
    members = (replica(1), replica(2), replica(3))
    ids = {
        cluster_id_of(NAME, SEED, members),
        cluster_id_of("other", SEED, members),
        cluster_id_of(NAME, b"other", members),
        cluster_id_of(NAME, SEED, (replica(1), replica(2), replica(3, 999))),
        cluster_id_of(NAME, SEED, members[:2]),
    }
    assert len(ids) == 5
    assert cluster_id_of(NAME, SEED, members[::-1]) == cluster_id_of(NAME, SEED, members)


def test_a_formation_survives_being_written_down() -> None:
    cluster = formed(replica(1), replica(2), replica(3))
    assert Formation.decode(cluster.encode()) == cluster


# -- joining ---------------------------------------------------------------------------------------------------------


def configuration(nodes: int = 3) -> ClusterConfig:
    return ClusterConfig.model_validate(
        {
            "cluster": NAME,
            "nodes": [
                {"id": n, "client_port": 1000 + n, "peer_port": 2000 + n, "http_port": 3000 + n, "data": f"n{n}"}
                for n in range(1, nodes + 1)
            ],
        }
    )


@dataclass
class Question:
    """Asked, and not answered yet."""

    asker: int
    asked: int
    answer: asyncio.Future[peer_pb2.IdentifyResponse]


@dataclass
class Voters:
    """Empty nodes that run the real ``join``; whoever owns this decides which question is answered when."""

    config: ClusterConfig
    stores: dict[int, MemoryStore] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    tasks: dict[int, asyncio.Task[Formation]] = field(default_factory=dict)
    had_majority: set[str] = field(default_factory=set)
    """Clusters to which a majority of the first voters has belonged at some moment."""

    def start(self, node: int, store: int) -> None:
        """An empty disk; where there was one before, it is gone for good."""
        if node in self.tasks:
            self.tasks[node].cancel()
        self.questions = [question for question in self.questions if question.asker != node]
        self.stores[node] = MemoryStore(node=NodeId(node), store_id=StoreId(store))

        async def identify(
            host: str, port: int, request: peer_pb2.IdentifyRequest, timeout_s: float
        ) -> peer_pb2.IdentifyResponse:
            question = Question(node, port - 2000, asyncio.get_running_loop().create_future())
            self.questions.append(question)
            return await question.answer

        work = join(self.config.node(node), self.me(node), self.stores[node], identify, lambda reason: None)
        self.tasks[node] = asyncio.get_running_loop().create_task(work)

    def me(self, node: int) -> ReplicaId:
        return ReplicaId(NodeId(node), self.stores[node].identity.store_id)

    def formation(self, node: int) -> Formation | None:
        return self.tasks[node].result() if self.tasks[node].done() else None

    def answer(self, question: Question) -> None:
        """With what is true at this moment."""
        self.questions.remove(question)
        cluster = self.formation(question.asked)
        me = self.me(question.asked)
        question.answer.set_result(empty_answer(me, self.config.seed_digest) if cluster is None else cluster.answer(me))

    def refuse(self, question: Question) -> None:
        self.questions.remove(question)
        question.answer.set_exception(Unavailable("cut off"))

    async def settle(self) -> None:
        """Let every node go on until it asks again, then see who belongs where."""
        for _ in range(12):
            await asyncio.sleep(0)
        belongs = [cluster.cluster_id for node in self.tasks if (cluster := self.formation(node)) is not None]
        self.had_majority |= {cluster for cluster in belongs if 2 * belongs.count(cluster) > len(VOTERS)}

    async def end(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def schedule(seed: int) -> Voters:
    """Three voters; questions are answered, or not, in an order of the seed's; one disk is replaced at some point."""
    rng = Random(seed)
    voters = Voters(configuration())
    for node in (1, 2, 3):
        voters.start(node, 100 + node)
    await voters.settle()
    replaced_at, replaced = rng.randrange(24), rng.choice((1, 2, 3))
    for step in range(60):
        if step == replaced_at:
            voters.start(replaced, 900 + replaced)
        elif voters.questions:
            question = rng.choice(voters.questions)
            (voters.refuse if rng.random() < 0.05 else voters.answer)(question)
        await voters.settle()
    return voters


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "PAUSE_S", 0)


SCHEDULES = 1_500


async def test_never_two_clusters_with_a_majority_though_a_disk_is_replaced(no_pauses: None) -> None:
    formed_ones = 0
    for seed in range(SCHEDULES):
        voters = await schedule(seed)
        assert len(voters.had_majority) <= 1, f"seed {seed}"
        formed_ones += len(voters.had_majority)
        await voters.end()
    assert formed_ones > SCHEDULES // 2, "otherwise nothing was tried"


async def test_a_single_round_of_questions_would_not_be_enough(
    no_pauses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The property above finds what it is for."""
    monkeypatch.setattr(joining, "is_reported", lambda formation, answers: True)
    for seed in range(SCHEDULES):
        voters = await schedule(seed)
        await voters.end()
        if len(voters.had_majority) > 1:
            return
    pytest.fail("no schedule led to two clusters")


async def test_two_voters_that_answer_empty_and_disappear_form_nothing(no_pauses: None) -> None:
    voters = Voters(configuration())
    for node in (1, 2, 3):
        voters.start(node, 100 + node)
    await voters.settle()
    for question in [question for question in voters.questions if question.asker == 1]:
        voters.answer(question)
    await voters.settle()
    again = [question for question in voters.questions if question.asker == 1]
    assert [question.asked for question in again] == [2, 3], "what was heard once is asked once more"
    for question in again:
        voters.refuse(question)
    await voters.settle()
    assert voters.formation(1) is None
    assert known_formation(voters.stores[1]) is None
    await voters.end()


def answering(answers: dict[int, peer_pb2.IdentifyResponse]) -> joining.Identify:
    async def identify(
        host: str, port: int, request: peer_pb2.IdentifyRequest, timeout_s: float
    ) -> peer_pb2.IdentifyResponse:
        if port - 2000 not in answers:
            raise Unavailable("not up")
        return answers[port - 2000]

    return identify


def nothing_said(reason: str) -> None:
    raise AssertionError(reason)


async def test_what_was_joined_is_on_disk_before_anybody_is_told() -> None:
    config = configuration()
    seed = config.seed_digest
    store = MemoryStore(node=NodeId(1), store_id=StoreId(101))
    answers = {n: empty_answer(replica(n), seed) for n in (2, 3)}
    cluster = await join(config.node(1), replica(1), store, answering(answers), nothing_said)
    store.crash()
    assert known_formation(store.reopen()) == cluster


async def test_a_disk_that_stalls_is_asked_again(no_pauses: None) -> None:
    config = configuration(1)
    store = MemoryStore(node=NodeId(1), store_id=StoreId(101))
    store.stall_next_write()
    cluster = await join(config.node(1), replica(1), store, answering({}), nothing_said)
    store.crash()
    assert known_formation(store.reopen()) == cluster


async def test_one_node_alone_is_a_cluster() -> None:
    config = configuration(1)
    store = MemoryStore(node=NodeId(1), store_id=StoreId(101))
    cluster = await join(config.node(1), replica(1), store, answering({}), nothing_said)
    assert cluster.voters == (replica(1),)


async def test_why_it_waits_is_said_once_per_reason(no_pauses: None) -> None:
    config = configuration()
    answers: dict[int, peer_pb2.IdentifyResponse] = {}
    said: list[str] = []
    rounds = 0
    inner = answering(answers)

    async def identify(
        host: str, port: int, request: peer_pb2.IdentifyRequest, timeout_s: float
    ) -> peer_pb2.IdentifyResponse:
        nonlocal rounds
        rounds += 1
        if rounds == 8:
            answers[2] = empty_answer(replica(2), config.seed_digest)
        if rounds == 16:
            answers[3] = empty_answer(replica(3), config.seed_digest)
        return await inner(host, port, request, timeout_s)

    store = MemoryStore(node=NodeId(1), store_id=StoreId(101))
    await join(config.node(1), replica(1), store, identify, said.append)
    assert [text[:6] for text in said] == ["node 2", "node 3"]
