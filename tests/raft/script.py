"""Scripted conversations: a command a line, and beneath it what came of it.

A file in ``testdata/`` is a story. Lines that start with ``#`` tell it; ``>`` starts a command; the indented lines
after it are what it printed when it was last accepted:

    cluster <voters> [spares=<n>..] [learners=<n>..] [heartbeats=off]
    campaign <n> | lost <n>.. | tick <ms> | crash <n> | compact <n> <start>
    propose <n> <payload> | read <n> <id> | transfer <n> <target> | install <n>
    change <n> voters=<a>,<b>.. [learners=<c>..]
    deliver [from=<n>] [to=<n>] [kind=<Message>]     everything in flight now, or what is chosen of it
    drop [from=<n>] [to=<n>] [kind=<Message>]
    exchange [cut=<n>,..]                            deliver until nobody has anything to say
    status [<n>..] | log <n> | flight

``RAFTMQ_REWRITE=1 pytest tests/raft/test_scripts.py`` writes what comes out now; the diff is for a reviewer.
"""

from __future__ import annotations

from collections.abc import Callable

from raftmq.ids import LogIndex
from raftmq.raft.config import RaftConfig
from raftmq.raft.errors import RaftRefusal
from raftmq.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    RequestVote,
    VoteReply,
)
from raftmq.raft.types import EntryKind, Membership

from .harness import ELECTION, HEARTBEAT, Cluster, members, replica


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def describe_membership(membership: Membership) -> str:
    parts = [
        f"{name}={','.join(str(member.node) for member in sorted(who))}"
        for name, who in (
            ("voters", membership.voters),
            ("outgoing", membership.outgoing),
            ("learners", membership.learners),
        )
        if who
    ]
    return " ".join(parts) or "nobody"


def describe(message: Message) -> str:
    head = f"{message.source.node}->{message.target.node} {type(message).__name__} term={message.term}"
    match message:
        case RequestVote():
            flags = " pre-vote" * message.pre_vote + " transfer" * message.transfer
            return f"{head} last=({message.last_index},{message.last_term}){flags}"
        case VoteReply():
            return f"{head} {'granted' if message.granted else 'refused'}{' pre-vote' * message.pre_vote}"
        case AppendEntries():
            entries = ",".join(f"({entry.index},{entry.term})" for entry in message.entries) or "none"
            prev = f"({message.prev_index},{message.prev_term})"
            return f"{head} prev={prev} entries={entries} commit={message.commit_index}"
        case AppendReply():
            what = (
                "match"
                if not message.rejected
                else f"rejected prev={message.prev_index} hint_term={message.hint_term} hint"
            )
            return f"{head} {what}={message.match_index}"
        case Heartbeat():
            return f"{head} commit={message.commit_index} round={message.round}"
        case HeartbeatReply():
            return f"{head} round={message.round}"
        case InstallSnapshot(snapshot=meta):
            return f"{head} snapshot=({meta.index},{meta.term})"
        case _:
            return head


class Script:
    """Runs commands against one cluster; each returns the lines to print."""

    def __init__(self) -> None:
        self.cluster = Cluster(1)
        self.sent = 0

    def run(self, command: str) -> list[str]:
        verb, *words = command.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        handler: Callable[[list[str], dict[str, str]], list[str]] = getattr(self, f"do_{verb}")
        before = list(self.cluster.network)
        try:
            lines = handler(plain, options)
        except RaftRefusal as refusal:
            return [f"{type(refusal).__name__}: {refusal}"]
        self.cluster.settle()
        if verb in ("exchange", "flight", "drop", "deliver"):
            return lines
        return lines + [describe(message) for message in self.cluster.network if message not in before]

    def do_cluster(self, words: list[str], options: dict[str, str]) -> list[str]:
        voters = members(*range(1, int(words[0]) + 1), learners=numbers(options.get("learners", "")))
        config = RaftConfig(ELECTION, HEARTBEAT, options.get("heartbeats") != "off")
        self.cluster = Cluster(voters, config, spares=numbers(options.get("spares", "")))
        return []

    def do_campaign(self, words: list[str], options: dict[str, str]) -> list[str]:
        self.cluster[int(words[0])].campaign(self.cluster.now)
        return []

    def do_lost(self, words: list[str], options: dict[str, str]) -> list[str]:
        for word in words:
            self.cluster[int(word)].leader_lost(self.cluster.now)
        return []

    def do_tick(self, words: list[str], options: dict[str, str]) -> list[str]:
        self.cluster.tick(int(words[0]))
        return []

    def do_crash(self, words: list[str], options: dict[str, str]) -> list[str]:
        self.cluster.hosts[int(words[0])].crash(self.cluster.now)
        return []

    def do_compact(self, words: list[str], options: dict[str, str]) -> list[str]:
        self.cluster.hosts[int(words[0])].compact(int(words[1]))
        return []

    def do_propose(self, words: list[str], options: dict[str, str]) -> list[str]:
        self.cluster[int(words[0])].propose(EntryKind.DATA, words[1], 1)
        return []

    def do_read(self, words: list[str], options: dict[str, str]) -> list[str]:
        self.cluster[int(words[0])].read_index(int(words[1]), self.cluster.now)
        return []

    def do_transfer(self, words: list[str], options: dict[str, str]) -> list[str]:
        self.cluster[int(words[0])].transfer_leadership(replica(int(words[1])), self.cluster.now)
        return []

    def do_change(self, words: list[str], options: dict[str, str]) -> list[str]:
        target = members(*numbers(options["voters"]), learners=numbers(options.get("learners", "")))
        self.cluster[int(words[0])].change_membership(target)
        return []

    def do_install(self, words: list[str], options: dict[str, str]) -> list[str]:
        host = self.cluster.hosts[int(words[0])]
        assert host.ordered is not None, "no snapshot was ordered"
        host.install(host.ordered)
        return []

    def _chosen(self, options: dict[str, str]) -> Callable[[Message], bool]:
        def chosen(message: Message) -> bool:
            return (
                options.get("from", str(message.source.node)) == str(message.source.node)
                and options.get("to", str(message.target.node)) == str(message.target.node)
                and options.get("kind", type(message).__name__) == type(message).__name__
            )

        return chosen

    def do_deliver(self, words: list[str], options: dict[str, str]) -> list[str]:
        kept = self.cluster.network[:]
        self.cluster.deliver(self._chosen(options))
        return [describe(message) for message in self.cluster.network if message not in kept]

    def do_drop(self, words: list[str], options: dict[str, str]) -> list[str]:
        return [f"lost: {describe(message)}" for message in self.cluster.drop(self._chosen(options))]

    def do_exchange(self, words: list[str], options: dict[str, str]) -> list[str]:
        self.cluster.exchange(numbers(options.get("cut", "")))
        return []

    def do_flight(self, words: list[str], options: dict[str, str]) -> list[str]:
        return [describe(message) for message in self.cluster.network]

    def do_log(self, words: list[str], options: dict[str, str]) -> list[str]:
        written = self.cluster.hosts[int(words[0])].written
        return [f"{e.index} term={e.term} {e.kind.name} {e.payload or ''}".rstrip() for e in written.entries]

    def do_status(self, words: list[str], options: dict[str, str]) -> list[str]:
        lines = []
        for number, host in self.cluster.hosts.items():
            if words and str(number) not in words:
                continue
            status = host.node.status()
            leader = status.leader.node if status.leader is not None else "none"
            lines.append(
                f"{number} {status.role.value} term={status.term} leader={leader} last={status.last_index} "
                f"commit={status.commit_index} {describe_membership(status.membership)}"
            )
            lines += [
                f"  {peer.node}: {view.state} match={view.match_index} next={LogIndex(view.next_index)}"
                for peer, view in status.peers.items()
            ]
            lines += [f"  read {grant.request_id} from {grant.index}" for grant in host.reads]
        return lines


def play(text: str) -> str:
    """The script again, with the output that its commands have now."""
    script, out = Script(), []
    for line in text.splitlines():
        if line.startswith("    "):
            continue
        out.append(line)
        if line.startswith("> "):
            out += [f"    {printed}" for printed in script.run(line[2:])]
    return "\n".join(out) + "\n"
