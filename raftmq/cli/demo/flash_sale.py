"""``raftmq demo flash-sale``: ten times as much as can be worked off, against a topic of limited depth.

buyers, 10 x the rate ──> topic, at most so deep ──> workers, at their own rate
          <── QUEUE_FULL, come again ──┘
"""

from __future__ import annotations

import asyncio
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

import raftmq
from raftmq.cli.demo.checks import Check
from raftmq.cli.demo.view import View
from raftmq.cli.supervisor import LocalCluster
from raftmq.client.connection import Address, NodeChannel
from raftmq.client.queue import QueueMessage
from raftmq.errors import Outcome, RaftmqError
from raftmq.v1 import broker_pb2, types_pb2

TOPIC, WORKERS = "flash-sale", "checkout"
PARTITIONS = 3
DEPTH = 500
"""Records of a partition."""
DRAIN_PER_S = 200
RUSH = 10
RECORD_BYTES = 500
BASKET = 20
"""Records of a request."""
HANDS = 16
"""Messages that workers have at once."""
PATIENCE_MS = 60_000
GROWTH_MAX_MIB = 64
"""Of a node's memory, whatever is offered."""


@dataclass(slots=True)
class Sale:
    """What happened. Records are known by their numbers."""

    seconds: int
    offered: int = 0
    accepted: set[int] = field(default_factory=set)
    refused: int = 0
    """Surely not taken, and told so."""
    untimely: int = 0
    """Refusals that did not say when to come again."""
    doubtful: set[int] = field(default_factory=set)
    reasons: dict[str, int] = field(default_factory=dict)
    served: dict[int, int] = field(default_factory=dict)
    memory_before: dict[int, int] = field(default_factory=dict)
    memory_peak: dict[int, int] = field(default_factory=dict)
    """Resident, in MiB, by node."""
    deepest: int = 0
    checks: list[Check] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, object]:
        return {
            "offered": self.offered,
            "accepted": len(self.accepted),
            "refused": self.refused,
            "unknown": len(self.doubtful),
            "reasons": self.reasons,
            "deepest": self.deepest,
            "memory_before_mib": self.memory_before,
            "memory_peak_mib": self.memory_peak,
            "checks": [asdict(check) for check in self.checks],
            "passed": self.passed,
        }

    def render(self) -> RenderableType:
        figures = Table(title=f"{self.seconds} s of a flash sale", title_justify="left", show_header=False)
        figures.add_column()
        figures.add_column(justify="right")
        for label, value in (
            ("workers' rate", f"{DRAIN_PER_S:,} records/s"),
            ("offered", f"{self.offered / self.seconds:,.0f} records/s"),
            ("offered in all", f"{self.offered:,}"),
            ("accepted", f"{len(self.accepted):,}"),
            ("refused, and told so", f"{self.refused:,}"),
            ("deepest partition", f"{self.deepest:,} records of {DEPTH:,}"),
        ):
            figures.add_row(label, value)
        verdicts = Table(title="checks", title_justify="left", show_header=False)
        for check in self.checks:
            mark = Text("passed", style="green") if check.passed else Text("FAILED", style="bold red")
            verdicts.add_row(check.name, mark, Text(check.evidence))
        verdict = (
            Text("PASSED: the rush was refused, not swallowed; memory stayed flat", style="bold green")
            if self.passed
            else Text("FAILED: see the checks above", style="bold red")
        )
        return Group(figures, verdicts, verdict)


class FlashSale:
    """One run on a cluster that is up."""

    def __init__(self, cluster: LocalCluster, seconds: int, view: View) -> None:
        self._cluster = cluster
        self._view = view
        self._sale = Sale(seconds)
        self._hurry = asyncio.Event()
        """The rush is over: workers take what is left as fast as they can."""
        self._all_served = asyncio.Event()
        self._due = 0.0

    async def run(self) -> Sale:
        """Raises RaftmqError where the cluster does not answer."""
        async with raftmq.connect(self._cluster.bootstrap) as client:
            await client.admin.create_topic(TOPIC, partitions=PARTITIONS, max_depth_records=DEPTH)
            tasks = {asyncio.create_task(self._work(client)), asyncio.create_task(self._watch())}
            try:
                await self._rush()
                self._view.event("the rush is over: the workers serve what was accepted, as fast as they can")
                self._hurry.set()
                self._look_round()
                async with asyncio.timeout(120):
                    await self._all_served.wait()
            except TimeoutError:
                self._view.event("what was accepted is not served", style="red")
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
        self._judge()
        return self._sale

    # -- buyers --------------------------------------------------------------------------------------------------------

    async def _rush(self) -> None:
        """Offer records at ten times the workers' rate, whatever becomes of those before."""
        sale, loop = self._sale, asyncio.get_running_loop()
        nodes = [NodeChannel(Address(one.host, one.client_port)) for one in self._cluster.config.nodes]
        await asyncio.gather(*(self._offer(node, partition) for partition, node in enumerate(nodes)))
        sale.memory_before = self._memory()
        self._view.event(f"{DRAIN_PER_S * RUSH:,} records/s are offered, {DRAIN_PER_S:,} a second can be served")
        began, calls = loop.time(), sale.seconds * DRAIN_PER_S * RUSH // BASKET
        offers = []
        for turn in range(calls):
            offers.append(asyncio.create_task(self._offer(nodes[turn % len(nodes)], turn // len(nodes) % PARTITIONS)))
            await asyncio.sleep(max(0.0, began + (turn + 1) * BASKET / DRAIN_PER_S / RUSH - loop.time()))
        await asyncio.gather(*offers)
        await asyncio.gather(*(node.close() for node in nodes))

    async def _offer(self, node: NodeChannel, partition: int) -> None:
        """One request, once: a basket of records, and what the node says to it."""
        sale = self._sale
        numbers = range(sale.offered, sale.offered + BASKET)
        sale.offered += BASKET
        records = [types_pb2.Record(value=str(number).encode().ljust(RECORD_BYTES)) for number in numbers]
        request = broker_pb2.ProduceRequest(topic=TOPIC, partition=partition % PARTITIONS, records=records)
        try:
            await node.call(node.broker.Produce, request, timeout_ms=PATIENCE_MS)
        except RaftmqError as error:
            if error.outcome is Outcome.NOT_APPLIED:
                sale.refused += BASKET
                sale.reasons[error.reason] = sale.reasons.get(error.reason, 0) + BASKET
                sale.untimely += not error.retry_after_ms
            else:
                sale.doubtful.update(numbers)
        else:
            sale.accepted.update(numbers)

    # -- workers -------------------------------------------------------------------------------------------------------

    async def _work(self, client: raftmq.Client) -> None:
        async with client.queue(TOPIC, WORKERS, prefetch=HANDS) as worker:
            await worker.run(self._serve, concurrency=HANDS)

    async def _serve(self, message: QueueMessage) -> None:
        now = asyncio.get_running_loop().time()
        self._due = max(self._due + 1 / DRAIN_PER_S, now - 0.1)
        if not self._hurry.is_set():
            await asyncio.sleep(max(0.0, self._due - now))
        number = int(message.value or b"-1")
        self._sale.served[number] = self._sale.served.get(number, 0) + 1
        self._look_round()

    def _look_round(self) -> None:
        if self._hurry.is_set() and self._sale.accepted <= self._sale.served.keys():
            self._all_served.set()

    # -- watchers ------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        sale, turn = self._sale, 0
        while True:
            await asyncio.sleep(0.5)
            for node, resident in self._memory().items():
                sale.memory_peak[node] = max(resident, sale.memory_peak.get(node, 0))
            sale.deepest = max(sale.deepest, await asyncio.to_thread(self._depth))
            turn += 1
            if turn % 4 == 0:
                memory = " ".join(str(mib) for mib in self._memory().values())
                self._view.event(
                    f"offered {sale.offered:,}, accepted {len(sale.accepted):,}, refused {sale.refused:,}, "
                    f"served {len(sale.served):,}; nodes have {memory} MiB"
                )

    def _depth(self) -> int:
        """Of the deepest partition, as the nodes' metrics tell."""
        deepest = 0.0
        for node in self._cluster.config.nodes:
            with urllib.request.urlopen(f"http://{node.host}:{node.http_port}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
            told = (line for line in lines if line.startswith("raftmq_partition_depth_records{"))
            deepest = max([deepest, *(float(line.rsplit(" ", 1)[1]) for line in told)])
        return int(deepest)

    def _memory(self) -> dict[int, int]:
        found = {}
        for node in self._cluster.nodes:
            lines = Path(f"/proc/{self._cluster.pid(node)}/status").read_text().splitlines()
            found[int(node)] = next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS:"))
        return found

    def _judge(self) -> None:
        sale = self._sale
        lost = sale.accepted - sale.served.keys()
        strange = sale.served.keys() - sale.accepted - sale.doubtful
        growth = {node: sale.memory_peak[node] - mib for node, mib in sale.memory_before.items()}
        told = len(sale.accepted) + sale.refused + len(sale.doubtful)
        sale.checks = [
            Check("more was offered than there was room for", sale.refused > 0, f"{sale.refused:,} refused"),
            Check(
                "every record was answered",
                told == sale.offered,
                f"{len(sale.accepted):,} accepted + {sale.refused:,} refused + {len(sale.doubtful):,} unknown "
                f"= {sale.offered:,} offered",
            ),
            Check(
                "the refused were told why, and when to come again",
                set(sale.reasons) <= {"QUEUE_FULL"} and not sale.untimely,
                ", ".join(f"{count:,} {reason}" for reason, count in sorted(sale.reasons.items())),
            ),
            Check("nothing accepted was lost", not lost, f"{len(sale.accepted):,} accepted, {len(lost)} not served"),
            Check(
                "nothing refused was served",
                not strange,
                f"{len(sale.served):,} served, {len(strange)} of them refused",
            ),
            Check("no partition was deeper than allowed", sale.deepest <= DEPTH, f"{sale.deepest:,} of {DEPTH:,}"),
            Check(
                "memory was flat",
                max(growth.values()) <= GROWTH_MAX_MIB,
                f"at most {max(growth.values())} MiB more than before, {GROWTH_MAX_MIB} MiB are allowed",
            ),
        ]
