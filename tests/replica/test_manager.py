"""All replicas of one node: what comes and goes while something is under way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftmq.errors import LeadershipLost, RaftmqError
from raftmq.ids import BootCount, GroupId, LogIndex, NodeId, ReplicaId, StoreId, Term
from raftmq.ports import Channel, DropReplica, Frame, GroupMessage, PeerInfo, PutReplica, TruncateFrom
from raftmq.raft.admission import TERM_JUMP_MAX
from raftmq.raft.messages import AppendEntries, AppendReply, RequestVote
from raftmq.raft.types import Entry, Membership
from raftmq.replica.outbox import ReadOrder, ReadResult, Round
from raftmq.replica.waits import Ack, Acks
from tests.replica.world import GROUP, Node, World


@pytest.fixture
def world() -> World:
    world = World()
    world.create_group()
    return world


def node(world: World, number: int) -> Node:
    return world.nodes[NodeId(number)]


def follower_of(leader: int) -> int:
    return next(number for number in (1, 2, 3) if number != leader)


def everyone(world: World) -> Membership:
    return Membership(frozenset(node.replica for node in world.nodes.values()))


# -- replicas that are removed -----------------------------------------------------------------------------------------


def test_what_was_read_for_a_removed_replica_is_nobodys(world: World) -> None:
    leader = world.elect()
    world.produce(leader, b"a")
    world.run(1_000)
    replicas = node(world, leader).replicas
    group = world.group(leader)
    first = group.tail.first_index
    order = ReadOrder(GROUP, group.generation, first, first, 100, None, 0)
    entry = group.entry(first)
    assert entry is not None
    replicas.drop(GROUP)
    replicas.read_done(ReadResult(order, (entry,)))
    assert not replicas.read_failed(order, "gone")
    created = replicas.create(GROUP, everyone(world), eager=False)
    replicas.read_done(ReadResult(order, (entry,)))
    assert not replicas.read_failed(order, "gone"), "that was the replica before"
    assert created.halted is None
    assert not created._read_back


def test_rows_that_cannot_be_read_halt_the_replica_and_no_other(world: World) -> None:
    leader = world.elect()
    other = GroupId(2)
    for each in world.nodes.values():
        each.replicas.create(other, everyone(world), eager=each.number == 1)
    world.run(3_000)
    replicas = node(world, leader).replicas
    group = world.group(leader)
    waiting = world.produce(leader, b"a")
    order = ReadOrder(GROUP, group.generation, group.tail.first_index, group.node.last_index, 1, None, 0)
    assert not replicas.read_failed(order, "checksum mismatch"), "it is tried once more"
    assert replicas.read_failed(order, "checksum mismatch")
    assert group.halted == "checksum mismatch"
    assert isinstance(waiting[0], LeadershipLost)
    assert replicas.leadership(GROUP) is None
    world.run(5_000)
    assert [n for n in world.leaders() if n != leader], "the others go on without it"
    assert world.group(1, other).halted is None


def test_a_removed_replica_leaves_the_disk_with_all_its_rows(world: World) -> None:
    leader = world.elect()
    world.produce(leader, b"a")
    world.run(1_000)
    generation = world.group(leader).generation
    node(world, leader).replicas.drop(GROUP)
    world.run(100)
    store = node(world, leader).store
    assert not [row for row in store.replicas() if row.group == GROUP]
    assert list(store.scan_headers(generation, world.group(follower_of(leader)).row.raft_start)) == []


def test_a_replica_that_is_created_anew_does_not_answer_for_the_one_before(world: World) -> None:
    """Its predecessor's answers wait for the disk. They vouch for a log that is gone by then."""
    leader = world.elect()
    world.run(1_000)
    follower = node(world, follower_of(leader))
    replicas = follower.replicas
    group = replicas.group(GROUP)
    assert group is not None
    sent: list[Frame] = []
    world.send = lambda source, target, channel, frame: sent.append(frame)  # type: ignore[method-assign]
    old = world.group(leader)
    entry = old.entry(old.node.last_index)
    assert entry is not None
    probe = AppendEntries(
        node(world, leader).replica, follower.replica, old.node.term, old.node.last_index,
        entry.term, (), old.node.commit_index,
    )  # fmt: skip
    group.step(probe, world.time.tick())
    replicas.touch(GROUP)
    made, _ = replicas.round()
    assert made is not None
    assert [type(message.message) for _, message in made.after] == [AppendReply]
    replicas.drop(GROUP)
    replicas.create(GROUP, everyone(world), eager=False)
    sent.clear()
    replicas.persisted(made)
    assert not [message for frame in sent for message in frame.messages]


def test_a_follower_makes_no_round_for_what_its_disk_holds_now_and_answers_all_the_same(world: World) -> None:
    leader = world.elect()
    world.run(1_000)
    follower = node(world, follower_of(leader))
    group, old = world.group(int(follower.number)), world.group(leader)
    world.produce(leader, b"a")
    world.run(0)
    entry = old.entry(old.node.last_index)
    assert entry is not None
    sent: list[Frame] = []
    world.send = lambda source, target, channel, frame: sent.append(frame)  # type: ignore[method-assign]
    group.step(
        AppendEntries(
            node(world, leader).replica, follower.replica, old.node.term, LogIndex(entry.index - 1), entry.term,
            (Entry(entry.index, entry.term, entry.kind, entry, entry.size, None),), old.node.commit_index,
        ),
        world.time.tick(),
    )  # fmt: skip
    follower.replicas.touch(GROUP)
    made, _ = follower.replicas.round()
    assert made is not None
    assert made.must_sync
    follower.wake = False
    follower.replicas.persisted(made)
    assert [type(message.message) for frame in sent for message in frame.messages] == [AppendReply]
    assert group.node.persisted_index == entry.index
    assert not follower.wake, "there is nothing to do"


def test_a_leader_makes_a_round_for_its_own_disk_only_where_that_commits_something(world: World) -> None:
    leader = world.elect()
    world.run(1_000, world.equal)
    here, group, follower = node(world, leader), world.group(leader), node(world, follower_of(leader))

    def append(acks: Acks) -> tuple[list[Ack | RaftmqError], Round]:
        answers = world.produce(leader, b"a", acks=acks)
        here.wake = True  # rounds are made by hand
        made, _ = here.replicas.round()
        assert made is not None
        here.wake = False
        return answers, made

    answers, made = append(Acks.LEADER)
    here.replicas.persisted(made)
    assert len(answers) == 1, "its own disk was all that was waited for"
    assert not here.wake
    _, made = append(Acks.QUORUM)
    last = group.node.last_index
    group.step(AppendReply(follower.replica, here.replica, group.node.term, last), world.time.tick())
    assert group.node.commit_index < last
    here.replicas.persisted(made)
    assert group.node.commit_index == last
    assert here.wake


def test_a_replica_is_removed_and_created_in_that_order_on_disk(world: World) -> None:
    world.elect()
    replicas = node(world, 1).replicas
    replicas.drop(GROUP)
    replicas.create(GROUP, everyone(world), eager=False)
    made, _ = replicas.round()
    assert made is not None
    kinds = [type(op) for op in made.ops if isinstance(op, DropReplica | PutReplica)]
    assert kinds[:2] == [DropReplica, PutReplica]
    assert made.must_sync


def test_a_removed_replicas_waits_all_end(world: World) -> None:
    leader = world.elect()
    world.run(1_000)
    replicas = node(world, leader).replicas
    group = world.group(leader)
    told: list[object] = []
    world.cut_off(leader)
    produced = world.produce(leader, b"a")
    replicas.barriers.watch(group, group.machine.next_offset, told.append)
    replicas.barriers.when_serving(group, told.append)
    replicas.barriers.barrier(group, world.time.tick(), told.append)
    replicas.touch(GROUP)
    replicas.drop(GROUP)
    assert isinstance(produced[0], LeadershipLost)
    assert told == [False, False, False]
    world.run(100)


# -- nodes that come and go --------------------------------------------------------------------------------------------


def test_a_node_that_is_called_dead_counts_again_when_it_is_reached(world: World) -> None:
    leader = world.elect()
    world.run(3_000)
    follower = node(world, follower_of(leader))
    replicas = node(world, leader).replicas
    in_sync = world.leadership(leader).in_sync
    replicas.on_peer_lost(follower.number, follower.info.boot)
    assert follower.replica not in in_sync.members(world.time.tick())
    world.run(500)
    assert follower.replica not in in_sync.members(world.time.tick()), "a late frame of the dead one proves nothing"
    world.heal()
    assert follower.replica in in_sync.members(world.time.tick())


def test_a_new_process_counts_again_without_being_reached(world: World) -> None:
    leader = world.elect()
    world.run(3_000)
    follower = node(world, follower_of(leader))
    node(world, leader).replicas.on_peer_lost(follower.number, follower.info.boot)
    world.crash(follower.number)
    world.restart(follower.number)
    assert world.run(3_000, lambda: follower.replica in world.leadership(leader).in_sync.members(world.time.tick()))


def test_a_new_process_is_in_sync_only_once_it_has_answered(world: World) -> None:
    """That it runs, and what the one before it held, says nothing of what is on its disk now."""
    leader = world.elect()
    world.run(3_000)
    follower = node(world, follower_of(leader))
    in_sync = world.leadership(leader).in_sync
    assert follower.replica in in_sync.members(world.time.tick())
    world.crash(follower.number)
    reborn = PeerInfo(follower.number, follower.info.store, BootCount(follower.info.boot + 1))
    replicas = node(world, leader).replicas
    replicas.on_frame(reborn, Frame(heartbeat=follower.replicas.heartbeats.beat(NodeId(leader))))
    assert follower.replica not in in_sync.members(world.time.tick())
    led = world.group(leader).node
    answer = AppendReply(follower.replica, node(world, leader).replica, led.term, led.last_index)
    replicas.on_frame(reborn, Frame(messages=(GroupMessage(GROUP, answer),)))
    assert follower.replica in in_sync.members(world.time.tick())


def test_the_death_of_an_earlier_process_says_nothing_of_this_one(world: World) -> None:
    leader = world.elect()
    follower = node(world, follower_of(leader))
    world.crash(follower.number)
    world.restart(follower.number)
    world.run(3_000)
    node(world, leader).replicas.on_peer_lost(follower.number, BootCount(follower.info.boot - 1))
    assert follower.replica in world.leadership(leader).in_sync.members(world.time.tick())


def test_frames_of_an_earlier_process_and_of_strangers_are_dropped(world: World) -> None:
    leader = world.elect()
    follower = node(world, follower_of(leader))
    old = follower.info
    world.crash(follower.number)
    world.restart(follower.number)
    world.run(3_000)
    group = world.group(leader)
    before = group.node.status()
    replicas = node(world, leader).replicas
    higher = Term(before.term + 1)
    vote = RequestVote(follower.replica, group.me, higher, before.last_index, before.term, False, True)
    beat = Frame(heartbeat=follower.replicas.heartbeats.beat(NodeId(leader)), messages=(GroupMessage(GROUP, vote),))
    replicas.on_frame(old, beat)
    assert replicas.heartbeats.boot_of(follower.number) == follower.info.boot
    replicas.on_frame(PeerInfo(NodeId(9), old.store, old.boot), beat)
    assert replicas.silence(NodeId(9)) > 1 << 40
    assert group.node.status() == before
    replicas.on_frame(follower.info, beat)
    assert group.node.term == higher, "its process of now is heard"


def test_a_message_in_anothers_name_is_dropped(world: World) -> None:
    leader = world.elect()
    follower = node(world, follower_of(leader))
    group = world.group(leader)
    forged = AppendReply(ReplicaId(NodeId(99), follower.info.store), group.me, group.node.term, group.node.last_index)
    status = group.node.status()
    node(world, leader).replicas.on_frame(follower.info, Frame(messages=(GroupMessage(GROUP, forged),)))
    assert group.node.status() == status


def test_a_node_that_becomes_known_later_is_told_what_is_led(world: World) -> None:
    """Otherwise a leader would not count its answers, and would step down for want of a quorum."""
    leader = world.elect()
    replicas = node(world, leader).replicas
    follower = follower_of(leader)
    others = [number for number in world.nodes if number not in (leader, follower)]
    replicas.set_nodes([NodeId(leader), *others])
    world.run(300)
    replicas.set_nodes(list(world.nodes))
    beat = replicas.heartbeats.beat(NodeId(follower))
    assert beat.led is not None
    assert GROUP in beat.led.terms
    world.crash(others[0])
    term = world.group(leader).node.term
    world.run(10_000)
    assert (world.leaders(), world.group(leader).node.term) == ([leader], term)


def test_a_leader_of_an_idle_group_survives_the_restart_of_a_follower(world: World) -> None:
    leader = world.elect()
    world.run(3_000)
    term = world.group(leader).node.term
    for follower in [number for number in (1, 2, 3) if number != leader]:
        world.crash(follower)
        world.run(100)
        world.restart(follower)
        world.run(3_000)
    assert (world.leaders(), world.group(leader).node.term) == ([leader], term)
    assert world.equal()


# -- rows --------------------------------------------------------------------------------------------------------------


def rounds_of(world: World, number: int) -> list[Round]:
    """Every round that a node makes from here on."""
    made: list[Round] = []
    replicas = node(world, number).replicas
    original = replicas.round

    def noting() -> tuple[Round | None, list[ReadOrder]]:
        done, reads = original()
        if done is not None:
            made.append(done)
        return done, reads

    replicas.round = noting  # type: ignore[method-assign]
    return made


def test_a_log_is_not_cut_for_entries_that_are_refused(world: World) -> None:
    """A leader's entries that do not continue this replica's log halt it; what it holds stays as it is."""
    leader = world.elect()
    world.run(2_000)
    world.cut_off(leader)
    world.produce(leader, b"never committed", acks=Acks.QUORUM, timeout=60_000)
    world.run(100)
    stale = node(world, leader)
    group = world.group(leader)
    last = group.node.last_index
    assert world.run(10_000, lambda: not group.is_leader)
    successor = world.elect()
    world.produce(successor, b"kept", acks=Acks.QUORUM)
    world.run(1_000)
    new = world.group(successor)
    entry = new.entry(last)
    assert entry is not None
    assert new.node.term_at(last) != group.node.term_at(last)
    damaged = replace(entry, chain=bytes(len(entry.chain)))
    previous = new.entry(type(last)(last - 1))
    assert previous is not None
    made = rounds_of(world, leader)
    message = AppendEntries(
        node(world, successor).replica, stale.replica, new.node.term, previous.index, previous.term,
        (Entry(last, damaged.term, damaged.kind, damaged, damaged.size),), previous.index,
    )  # fmt: skip
    group.step(message, world.time.tick())
    stale.replicas.touch(GROUP)
    world.run(100)
    assert group.halted is not None
    assert "damaged" in group.halted
    assert not [op for done in made for op in done.ops if isinstance(op, TruncateFrom)]
    world.crash(leader)
    world.restart(leader)
    assert world.group(leader).node.last_index == last
    world.heal()
    assert world.run(10_000, world.equal), "an intact leader's entries are taken"


# -- terms that nobody can have come to --------------------------------------------------------------------------------


def test_a_forged_term_is_dropped_and_a_large_one_is_followed(world: World) -> None:
    """One message must not use up the terms that there are: the group could never elect again."""
    leader = world.elect()
    other = follower_of(leader)
    peer, target = node(world, other).info, node(world, leader)
    term = world.group(leader).node.term
    for forged in (term + TERM_JUMP_MAX + 1, 2**48, 2**63 - 1):
        for message in (
            AppendReply(node(world, other).replica, target.replica, Term(forged), LogIndex(0)),
            RequestVote(node(world, other).replica, target.replica, Term(forged), LogIndex(9), term, transfer=True),
        ):
            target.replicas.on_frame(peer, Frame(messages=(GroupMessage(GROUP, message),)))
    world.run(50)
    assert (world.leaders(), world.group(leader).node.term) == ([leader], term)
    assert world.group(leader).node.terms_refused == 4  # the largest one is no term at all
    honest = AppendReply(node(world, other).replica, target.replica, Term(term + 1000), LogIndex(0))
    target.replicas.on_frame(peer, Frame(messages=(GroupMessage(GROUP, honest),)))
    assert world.group(leader).node.term == term + 1000
    world.elect()


# -- frames of nobody, and frames of yesterday -------------------------------------------------------------------------


def test_frames_of_a_node_that_is_none_of_the_cluster_do_nothing(world: World) -> None:
    leader = world.elect()
    target, stranger = node(world, leader), ReplicaId(NodeId(9), StoreId(109))
    term = world.group(leader).node.term
    before = world.group(leader).node.status()
    for message in (
        RequestVote(stranger, target.replica, Term(term + 1), LogIndex(99), term, transfer=True),
        AppendReply(stranger, target.replica, Term(term + 1), LogIndex(99)),
        AppendEntries(stranger, target.replica, Term(term + 1), LogIndex(0), Term(0), (), LogIndex(99)),
    ):
        target.replicas.on_frame(
            PeerInfo(NodeId(9), StoreId(109), BootCount(1)), Frame(messages=(GroupMessage(GROUP, message),))
        )
    assert world.group(leader).node.status() == before


def test_messages_of_a_group_that_is_not_here_do_nothing(world: World) -> None:
    leader = world.elect()
    other = follower_of(leader)
    target = node(world, leader)
    before = {group: replica.node.status() for group, replica in target.replicas.groups.items()}
    message = AppendReply(node(world, other).replica, target.replica, Term(99), LogIndex(99))
    target.replicas.on_frame(node(world, other).info, Frame(messages=(GroupMessage(GroupId(2**62), message),)))
    assert {group: replica.node.status() for group, replica in target.replicas.groups.items()} == before


def test_all_that_was_ever_sent_comes_again_and_changes_nothing(world: World) -> None:
    """A recorded connection, played into a new one: of two leaders, and of what was replicated under each."""
    recorded: list[tuple[NodeId, PeerInfo, Frame]] = []
    send = world.send

    def record(source: NodeId, target: NodeId, channel: Channel, frame: Frame) -> None:
        if target in world.nodes:
            recorded.append((target, world.nodes[source].info, frame))
        send(source, target, channel, frame)

    world.send = record  # type: ignore[method-assign]
    first = world.elect()
    world.produce(first, b"a")
    world.run(1_000)
    world.group(first).node.transfer_leadership(node(world, follower_of(first)).replica, world.time.tick())
    node(world, first).replicas.touch(GROUP)
    world.run(3_000)
    world.produce(world.elect(), b"b")
    world.run(2_000)
    assert world.equal()
    chain, term = world.group(1).end_chain, world.group(1).node.term
    world.send = send  # type: ignore[method-assign]
    for target, info, frame in recorded:
        world.nodes[target].replicas.on_frame(info, frame)
    world.run(5_000)
    assert world.equal()
    assert world.group(1).end_chain == chain
    assert world.group(world.elect()).node.term == term, "no election was won by votes of the past"
