"""Operators at work: replicas are moved, nodes drained and taken back, disks replaced, operations cancelled, while
everything else goes wrong. Like faults: drawn ahead of the run, and brought to their end when faults are over.

The promise has limits here too. One disk at a time is lost with all that it held, only in groups of three or more, and
the next one only when every group has the new disk among its voters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

from raftmq.controller.operations import Operations
from raftmq.errors import RaftmqError
from raftmq.ids import CONTROLLER_GROUP, NodeId, StoreId
from raftmq.metadata.image import MetadataImage
from raftmq.metadata.operation import OperationKind
from raftmq.sim.node import PEER_PORT
from raftmq.sim.plan import Step
from raftmq.storage.memory import MemoryStore

if TYPE_CHECKING:
    from raftmq.sim.cluster import SimCluster
    from raftmq.sim.node import NodeProcess, SimNode

TIMEOUT_MS = 5_000
AGAIN_MICROS = 300_000
"""After so long an operator tries again what was refused."""


class Members:
    """Executes steps of ``plan.MEMBER_KINDS``. ``fired`` counts those that began something, by kind."""

    def __init__(self, cluster: SimCluster, rng: Random) -> None:
        self.fired: Counter[str] = Counter()
        self._cluster = cluster
        self._rng = rng
        self._lost: SimNode | None = None
        """Its disk was replaced, and not every group has the new one yet."""
        self._newcomer: SimNode | None = None
        """It has started, and is to belong to the cluster in the end."""
        self._going: SimNode | None = None
        """It is drained, and then removed for good."""
        self._mending = False

    def schedule(self, steps: Sequence[Step]) -> None:
        for step in steps:
            self._cluster.agenda.after(step.at, self._begin, step)

    def mend(self) -> None:
        """Faults are over: what was drained is taken back, what was lost is repaired."""
        self._mending = True
        self._look_after()

    def unwell(self) -> str:
        """What is not as it should be; empty if all is."""
        image = self._image()
        if image is None:
            return "the controller has no leader"
        if self._newcomer is not None and self._newcomer.number in image.nodes:
            self._cluster.checker.states["nodes added"] = 1
        if running := image.running():
            waits = self._waits(running[0].id)
            return f"operation {running[0].id} ({running[0].kind.name}) is not over: {waits}"
        if leaving := sorted(node for node, known in image.nodes.items() if known.leaving):
            return f"node {leaving[0]} is drained"
        if self._going is not None:
            return f"node {self._going.number} is not removed"
        return "" if self._lost is None or self._is_whole(image) else f"node {self._lost.number} is not repaired"

    # -- what happens ------------------------------------------------------------------------------------------------

    def _begin(self, step: Step) -> None:
        does = {
            "move": self._move,
            "drain": self._drain,
            "cancel": self._cancel,
            "wipe": self._wipe,
            "join": self._join,
            "leave": self._leave,
        }
        if not self._mending and does[step.kind](step):
            self.fired[step.kind] += 1
            self._cluster.note("operator", f"{step.kind} {step.picks}")

    def _move(self, step: Step) -> bool:
        image = self._image()
        if image is None or not image.groups:
            return False
        found = image.partition(sorted(image.groups)[step.picks[0] % len(image.groups)])
        assert found is not None, "an index of what is there"
        topic, partition = found
        held = [replica.node for replica in partition.replicas]
        free = sorted(set(image.nodes) - set(held))
        if not free:
            return False
        source, target = held[step.picks[1] % len(held)], free[step.picks[2] % len(free)]
        return self._operate(
            lambda operations: operations.move_replica(topic.name, partition.partition, source, target, TIMEOUT_MS)
        )

    def _join(self, step: Step) -> bool:
        """A machine that nobody knew starts, and asks to be let in."""
        if self._newcomer is not None:
            return False
        self._newcomer = self._cluster.add()
        self._newcomer.boot()
        self._look_after()
        return True

    def _leave(self, step: Step) -> bool:
        """A node is drained, and removed as soon as it holds nothing."""
        image = self._image()
        if image is None or self._going is not None or self._lost is not None:
            return False
        node = self._pick(step)
        if image.nodes.keys() != self._cluster.nodes.keys() or len(image.nodes) <= 3:
            return False
        self._going = node
        self._look_after()
        return True

    def _pick(self, step: Step) -> SimNode:
        nodes = [node for _, node in sorted(self._cluster.nodes.items())]
        return nodes[step.picks[0] % len(nodes)]

    def _drain(self, step: Step) -> bool:
        node = NodeId(self._pick(step).number)
        self._cluster.agenda.after(step.length, self._look_after)
        return self._operate(lambda operations: operations.drain_node(node, TIMEOUT_MS))

    def _cancel(self, step: Step) -> bool:
        image = self._image()
        running = [] if image is None else image.running()
        if not running:
            return False
        number = running[step.picks[0] % len(running)].id
        return self._operate(lambda operations: operations.cancel(number, TIMEOUT_MS))

    def _wipe(self, step: Step) -> bool:
        image = self._image()
        if self._cluster.plan.replication_factor < 3 or image is None or image.running() or not self._is_whole(image):
            return False
        node = self._pick(step)
        if node.process is None or self._going is not None or node.number not in image.nodes:
            return False
        node.kill(silently=bool(step.picks[1] & 1))
        node.store = MemoryStore(node=NodeId(node.number), store_id=StoreId(self._rng.getrandbits(62) + 1))
        node.store.kill()  # as every disk is before its node boots
        node.disks += 1
        self._lost = node
        self._cluster.agenda.after(step.length, self._boot, node)
        self._look_after()
        return True

    def _boot(self, node: SimNode) -> None:
        if node.process is None and self._cluster.nodes.get(node.number) is node:
            node.boot()

    # -- looking after it --------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Try again until there is nothing to do: let in the new, remove the going, repair the lost, take back the
        drained."""
        image = self._image()
        again = True
        if image is not None and not image.running():
            going = None if self._going is None else NodeId(self._going.number)
            leaving = sorted(node for node, known in image.nodes.items() if known.leaving and node != going)
            newcomer = None if self._newcomer is None else NodeId(self._newcomer.number)
            if newcomer is not None and newcomer != going and self._is_unknown(newcomer, image):
                address = ("127.0.0.1", PEER_PORT + newcomer)
                self._operate(lambda operations: operations.add_node(newcomer, *address, TIMEOUT_MS))
            elif going is not None:
                self._see_off(going, image)
            elif self._lost is not None and not self._is_whole(image):
                number = NodeId(self._lost.number)
                self._operate(lambda operations: operations.repair_node(number, TIMEOUT_MS))
            elif leaving and self._mending:
                self._operate(lambda operations: operations.add_node(leaving[0], "", 0, TIMEOUT_MS))
            else:
                self._lost, again = None, self._mending
        elif image is not None and self._mending and self._lost is not None:
            # What waits for the lost disk would wait for ever, and the node is not repaired before it is over.
            waiting = [known.id for known in image.running() if known.kind is not OperationKind.REPAIR_NODE]
            if waiting and not self._is_whole(image):
                self._operate(lambda operations: operations.cancel(waiting[0], TIMEOUT_MS))
        if again:
            self._cluster.agenda.after(AGAIN_MICROS, self._look_after)

    def _is_unknown(self, node: NodeId, image: MetadataImage) -> bool:
        """It has never been in the cluster: one that is not there any more has left it for good."""
        return node in self._cluster.nodes and node not in image.nodes

    def _see_off(self, node: NodeId, image: MetadataImage) -> None:
        """Drain it, then remove it, then switch the machine off."""
        known = image.nodes.get(node)
        assert self._going is not None
        if known is None:
            self._cluster.retire(self._going)
            self._cluster.checker.states["nodes removed"] += 1
            self._going = None
        elif known.leaving:
            self._operate(lambda operations: operations.remove_node(node, TIMEOUT_MS))
        elif self._mending:
            self._going = None  # nobody could take what it holds
        else:
            self._operate(lambda operations: operations.drain_node(node, TIMEOUT_MS))

    def _is_whole(self, image: MetadataImage) -> bool:
        """Every group's voters have the disks that run, and nobody else is a member."""
        disks = {node.number: node.store.identity.store_id for node in self._cluster.nodes.values()}
        if any(disks[known.id.node] != known.id.store for known in image.nodes.values()):
            return False
        for group_id in (CONTROLLER_GROUP, *image.groups):
            leading = self._leading(group_id)
            assembly = None if leading is None else leading.assembly
            group = None if assembly is None else assembly.replicas.group(group_id)
            if group is None or any(disks[member.node] != member.store for member in group.node.membership.all):
                return False
        return True

    def _leading(self, group_id: int) -> NodeProcess | None:
        """The process whose replica serves as the group's leader."""
        for _, node in sorted(self._cluster.nodes.items()):
            process = node.process
            if process is None or process.assembly is None or process.is_paused:
                continue
            for number, group in process.assembly.replicas.groups.items():
                if number == group_id and group.can_serve():
                    return process
        return None

    def _image(self) -> MetadataImage | None:
        """As the controller's leader sees it."""
        process = self._leading(CONTROLLER_GROUP)
        return None if process is None or process.assembly is None else process.assembly.controller.image

    def _waits(self, number: int) -> str:
        process = self._leading(CONTROLLER_GROUP)
        assert process is not None
        assert process.assembly is not None
        operations = process.assembly.operations
        return operations.waits(operations.get(number))

    def _operate(self, work: Callable[[Operations], Awaitable[object]]) -> bool:
        """Ask the controller's leader. What it refuses is no finding."""
        process = self._leading(CONTROLLER_GROUP)
        if process is None or process.assembly is None:
            return False
        operations = process.assembly.operations
        states = self._cluster.checker.states

        async def tried() -> None:
            try:
                await work(operations)
            except RaftmqError as error:
                states[f"operation {error.reason}"] += 1
            else:
                states["operations begun"] += 1

        self._cluster.spawn(process, tried())
        return True
