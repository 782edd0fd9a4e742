"""Which toxics make which fault, and what the proofs ask for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from raftmq.chaos.experiment import ClusterPlan
from raftmq.chaos.faults import links, probe
from raftmq.chaos.plans import Cut, Disturb
from raftmq.chaos.proxies import BINARY_VARIABLE, find_server, free_ports, why_missing
from raftmq.chaos.topology import build


def cut(shape: str, manner: str = "black-hole") -> Cut:
    return Cut.model_validate({"fault": "cut", "shape": shape, "manner": manner, "at": 1})


def test_isolation_cuts_all_that_goes_to_and_from_a_node() -> None:
    ways = links.directions(cut("isolate"), 1, [2, 3])
    assert sorted(ways) == sorted((p, s) for p in ("1-2", "2-1", "1-3", "3-1") for s in (links.UP, links.DOWN))


def test_mute_and_deaf_are_the_two_halves_of_isolation() -> None:
    mute, deaf = links.directions(cut("mute"), 1, [2, 3]), links.directions(cut("deaf"), 1, [2, 3])
    assert not set(mute) & set(deaf)
    assert sorted(mute + deaf) == sorted(links.directions(cut("isolate"), 1, [2, 3]))
    # What 1 says goes upstream when it dials, and downstream when it is dialled.
    assert ("1-2", links.UP) in mute
    assert ("2-1", links.DOWN) in mute


def test_one_link_leaves_the_others_alone() -> None:
    assert {proxy for proxy, _ in links.directions(cut("one-link"), 1, [3, 2])} == {"1-3", "3-1"}


def unheard(shape: str, nodes: int) -> set[frozenset[int]]:
    """Pairs of which neither hears the other; the target is node 1."""
    pairs = links.silences(cut(shape), 1, range(2, nodes + 1))
    assert {(b, a) for a, b in pairs} == set(pairs)
    return {frozenset(pair) for pair in pairs}


def test_two_halves_hear_each_other_through_the_bridge_only() -> None:
    assert unheard("bridge", 5) == {frozenset(pair) for pair in ((1, 4), (1, 5), (3, 4), (3, 5))}


def test_in_a_ring_of_five_each_hears_its_two_neighbours() -> None:
    apart = unheard("ring", 5)
    for node in range(1, 6):
        heard = {other for other in range(1, 6) if other != node and frozenset((node, other)) not in apart}
        assert len(heard) == 2
    assert len(apart) == 5


def test_halves_leave_a_minority_with_the_target() -> None:
    assert unheard("halves", 5) == {frozenset((a, b)) for a in (1, 2) for b in (3, 4, 5)}
    assert unheard("halves", 3) == unheard("isolate", 3)


def test_clients_are_cut_off_without_the_peers() -> None:
    assert {proxy for proxy, _ in links.directions(cut("clients"), 2, [1, 3])} == {"clients-2"}


def test_a_black_hole_drops_and_a_hold_keeps() -> None:
    assert {(t.type, *t.attributes.items()) for t in links.cutting(cut("isolate"), 1, [2])} == {
        ("timeout", ("timeout", 0))
    }
    assert {(t.type, *t.attributes.items()) for t in links.cutting(cut("isolate", "hold"), 1, [2])} == {
        ("bandwidth", ("rate", 0))
    }


@pytest.mark.parametrize(("where", "proxies"), [("peers", 6), ("target", 4), ("clients", 3)])
def test_disturbances_go_on_both_directions_of_what_is_meant(where: str, proxies: int) -> None:
    plan = Disturb.model_validate({"fault": "disturb", "toxic": "slicer", "links": where, "at": 1})
    toxics = links.disturbing(plan, 1, [1, 2, 3])
    assert len({t.proxy for t in toxics}) == proxies
    assert len(toxics) == len({(t.proxy, t.name) for t in toxics}) == 2 * proxies


def test_every_directed_link_has_a_proxy_of_its_own(tmp_path: Path) -> None:
    built = build(ClusterPlan(), tmp_path, proxied=True)
    assert len(built.routes) == 9
    listening = [listen for listen, _ in built.routes.values()]
    assert len(set(listening)) == 9
    for node in built.config.nodes:
        for other, address in node.peer_overrides.items():
            assert built.routes[f"{node.id}-{other}"] == (address.port, built.config.node(other).entry.peer_port)
        assert built.routes[f"clients-{node.id}"] == (node.advertised_client_port, node.client_port)
        assert built.direct("127.0.0.1", built.routes[f"clients-{node.id}"][0]) == ("127.0.0.1", node.client_port)


def test_without_proxies_nodes_dial_each_other(tmp_path: Path) -> None:
    built = build(ClusterPlan(), tmp_path, proxied=False)
    assert not built.routes
    assert all(not node.peer_overrides and node.advertised_client_port is None for node in built.config.nodes)


def test_a_server_that_is_named_wrongly_is_not_replaced_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BINARY_VARIABLE, "/nowhere/toxiproxy-server")
    assert find_server() is None
    assert "toxiproxy" in str(why_missing())


# -- the probe


@contextlib.asynccontextmanager
async def served(answer: bytes, *, close: bool) -> AsyncIterator[int]:
    """A server for one connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(10):
            writer.write(answer)
        while not close and await reader.read(65536):
            pass
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    ended = asyncio.Event()
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await ended.wait()


async def test_the_probe_sees_an_answer() -> None:
    async with served(b"settings" + probe.PONG, close=False) as port:
        seen = await probe.look(port, 5)
    assert (seen.connected, seen.pongs, seen.ended) == (True, 1, "")
    assert seen.answered_ms is not None


async def test_the_probe_sees_a_black_hole() -> None:
    async with served(b"", close=False) as port:
        seen = await probe.look(port, 0.2)
    assert (seen.connected, seen.answered_ms, seen.ended) == (True, None, "")


async def test_what_a_server_says_unasked_is_no_answer() -> None:
    async with served(b"settings", close=False) as port:
        seen = await probe.look(port, 0.2)
    assert (seen.bytes, seen.answered_ms) == (8, None)


async def test_the_probe_sees_a_cut() -> None:
    async with served(b"he", close=True) as port:
        seen = await probe.look(port, 5, pings=1)
    assert seen.bytes <= 2
    assert seen.ended in ("closed", "reset")


async def test_the_probe_sees_a_refusal() -> None:
    (port,) = free_ports(1)
    assert (await probe.look(port, 5)).ended == "refused"
