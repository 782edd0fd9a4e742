"""What goes wrong on disks. See ``faults`` for the limits."""

from __future__ import annotations

from raftmq.sim.node import SimNode
from raftmq.sim.plan import Step
from raftmq.sim.victims import Victims

SLOW_READ = (20_000, 200_000)


class DiskFaults(Victims):
    """Disks that are slow, hang, stall, fail, lose, tear and rot."""

    def _slow_disk(self, step: Step) -> bool:
        node = self._victim(step)
        node.speed.sync = (10_000, 20_000 + step.picks[2] * 10)

        def fast() -> None:
            node.speed.sync = self._cluster.plan.sync

        self._later(step.length, fast)
        return True

    def _hung_disk(self, step: Step) -> bool:
        node = self._victim(step)
        node.speed.hung = True

        def free() -> None:
            node.speed.hung = False

        self._later(step.length, free)
        return True

    def _stalled_write(self, step: Step) -> bool:
        self._victim(step).store.stall_next_write()
        return True

    def _failed_write(self, step: Step) -> bool:
        node = self._victim(step)
        if node.process is None:
            return False
        node.store.fail_next_write()
        return True

    def _failed_sync(self, step: Step) -> bool:
        node = self._victim(step)
        if node.process is None:
            return False
        node.store.fail_next_sync()
        return True

    def storage_failed(self, node: SimNode) -> None:
        """A write or sync has failed, and the process has ended: what was not synced may be there or not."""
        node.kill()
        node.store.crash(self._rng)
        self._agenda.after(self._rng.randint(50_000, 500_000), self._boot, node)

    def _lost_tail(self, step: Step) -> bool:
        """Power is cut, and the disk has lied about some of its last syncs."""
        node = self._some_node(step.picks[0])
        if node.process is None or self._anybody_suspect() or self._cluster.plan.replication_factor < 3:
            return False  # of two replicas no majority can do without one
        leader = self._leader(step.picks[0])
        if not node.lose_tail(1 + step.picks[1] % 20):
            return False
        self._later(step.length, self._boot, node)
        if step.picks[2] & 8 and leader is not None and leader is not node:
            # Those who are left decide together with the one that has forgotten something.
            self._stop(leader, Step(0, "kill", 4 * step.length, step.picks), power=False)
        return True

    def _trap(self, step: Step) -> bool:
        """The process dies at a point where it hurts: after a write, before its sync; or after the sync, before anybody
        is told. It is back at once, or after a while."""
        process = self._victim(step).process
        if process is None or process.driver is None:
            return False
        wanted = ("written", "synced")[step.picks[0] & 1]
        left = step.picks[1] % 20

        def dies(moment: str) -> bool:
            nonlocal left
            if moment != wanted or self._mended:
                return False
            left -= 1
            if left >= 0:
                return False
            length = step.length if step.picks[2] & 4 else 1_000
            self._stop(process.node, Step(0, "trap", length, step.picks), power=True)
            return True

        process.driver.trap = dies
        return True

    def _anybody_suspect(self) -> bool:
        return any(node.is_missed or any(row.suspect for row in node.durable.rows.values()) for node in self._nodes)

    def _torn_write(self, step: Step) -> bool:
        """Power is cut in the middle of a write: of what was not synced, whole batches are there up to the torn one,
        which is cut off at the next start with everything behind it."""
        node = self._victim(step)
        if node.process is None or not node.store.unsynced:
            return False
        node.kill(silently=bool(step.picks[2] & 1))
        node.store.crash(torn=step.picks[1])
        self._later(step.length, self._boot, node)
        return True

    def _corrupt_log(self, step: Step) -> bool:
        """Power is cut, and a bit of what was synced is another one: recovery ends there without a word, however much
        lies behind it. The tail marker tells."""
        node = self._some_node(step.picks[0])
        if node.process is None or self._anybody_suspect() or self._cluster.plan.replication_factor < 3:
            return False
        if not node.lose_tail(1 + step.picks[1] % 64):
            return False
        self._later(step.length, self._boot, node)
        return True

    def _corrupt_read(self, step: Step) -> bool:
        """What is read back next is not what was written: a replica halts over it until its process starts anew, a
        reader is told DATA_LOSS, and nobody is ever given it."""
        node = self._victim(step)
        if node.process is None:
            return False
        node.store.corrupt_next_read(step.picks[1])
        return True

    def _slow_reads(self, step: Step) -> bool:
        node = self._victim(step)
        fast, node.speed.read = node.speed.read, SLOW_READ

        def recover() -> None:
            node.speed.read = fast

        self._later(step.length, recover)
        return fast != SLOW_READ
