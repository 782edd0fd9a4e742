"""A real toxiproxy-server, and one proxy for every directed link.

A node's peers dial it through ``peer_overrides``, clients through the address that it advertises; so that each pair of
nodes has two links, which can be cut one by one. A gRPC call from 1 to 2 goes *upstream* through the proxy ``1-2``, and
its answer comes back *downstream* through the same proxy.

The server's HTTP client has no timeouts and blocks: every call runs in a thread. It keeps its address in a class
attribute: one server a process.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from toxiproxy import Proxy

HOST = "127.0.0.1"
BINARY_VARIABLE = "TOXIPROXY_BIN"
TOOLS = Path(".tools/bin/toxiproxy-server")
START_SECONDS = 10.0
REMOVE_ATTEMPTS = 4

Stream = Literal["upstream", "downstream"]


class Toxic(NamedTuple):
    """One disturbance of one direction of one proxy."""

    proxy: str
    type: str
    stream: Stream
    attributes: Mapping[str, int]
    owner: int = 0
    """Tells it from those of the same type that other faults have put there."""

    @property
    def name(self) -> str:
        return f"{self.type}-{self.stream}-{self.owner}"


def find_server() -> Path | None:
    """The server's program: the variable TOXIPROXY_BIN, then PATH, then what ``make toxiproxy`` built."""
    named = os.environ.get(BINARY_VARIABLE)
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    found = shutil.which("toxiproxy-server")
    if found:
        return Path(found)
    return TOOLS.resolve() if os.access(TOOLS, os.X_OK) else None


def why_missing() -> str | None:
    """What keeps this machine from network faults, or None where nothing does."""
    try:
        import toxiproxy  # noqa: F401
    except ImportError:
        return "the Python package toxiproxy-python is not installed (pip install 'raftmq[chaos]')"
    if find_server() is None:
        return f"no toxiproxy-server: set {BINARY_VARIABLE}, put it on PATH, or run 'make toxiproxy'"
    return None


def free_ports(count: int, rng: random.Random | None = None) -> list[int]:
    """Ports of loopback that nobody listens on now, from below those that the kernel takes for outgoing connections."""
    rng = rng or random.Random()
    found: list[int] = []
    while len(found) < count:
        port = rng.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class Proxies:
    """The server and its proxies. Made by `start`; `stop` ends the process."""

    def __init__(self, process: subprocess.Popen[bytes], listen: Mapping[str, int]) -> None:
        self._process = process
        self.listen = dict(listen)
        """Port of loopback of each proxy, by name."""
        self._proxies: dict[str, Proxy] = {}
        self.version = ""

    @classmethod
    async def start(cls, routes: Mapping[str, tuple[int, int]], log: Path) -> Proxies:
        """`routes`: for each name the port to listen on and the port to go to.

        Raises OSError where the server does not come up.
        """
        from toxiproxy import Toxiproxy

        binary = find_server()
        assert binary is not None, "ask why_missing() first"
        # Its HTTP client believes the environment, which is about the web and not about this machine.
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(
            filter(None, [os.environ.get("NO_PROXY", os.environ.get("no_proxy", "")), HOST])
        )
        (port,) = free_ports(1)
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: ASYNC220, S603  done in a millisecond; the program is the user's choice
                [str(binary), "-host", HOST, "-port", str(port)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        proxies = cls(process, {name: listen for name, (listen, _) in routes.items()})
        try:
            api = Toxiproxy()
            api.update_api_consumer(HOST, port)
            await _answering(process, port, log)
            proxies.version = (await asyncio.to_thread(api.version) or b"").decode(errors="replace").strip()
            for name, (listen, target) in routes.items():
                proxies._proxies[name] = await asyncio.to_thread(
                    api.create, upstream=f"{HOST}:{target}", name=name, listen=f"{HOST}:{listen}", enabled=True
                )
        except BaseException:
            await proxies.stop()
            raise
        return proxies

    async def add(self, toxics: Sequence[Toxic]) -> None:
        """Begin all disturbances, within milliseconds. None of them may be there already."""
        await self._each(toxics, self._add)

    async def remove(self, toxics: Sequence[Toxic]) -> None:
        """End disturbances, and deliver what they held. Those that are not there any more are passed over.

        The server waits 5 s for each connection that has died while bytes for it were held.
        """
        await self._each(toxics, self._remove)

    async def present(self, proxy: str) -> dict[str, Any]:
        """The toxics of a proxy as the server itself lists them."""
        toxics = await asyncio.to_thread(self._proxies[proxy].toxics)
        return {name: dict(toxic.attributes) for name, toxic in toxics.items()}

    async def enable(self, names: Sequence[str], enabled: bool) -> None:
        """Disabled, a proxy closes its connections and refuses new ones."""
        for name in names:
            proxy = self._proxies[name]
            await asyncio.to_thread(proxy.enable if enabled else proxy.disable)

    async def _each(self, toxics: Sequence[Toxic], change: Callable[[Toxic], None]) -> None:
        """Change all proxies at once, and one after the other what concerns one proxy."""
        by_proxy: dict[str, list[Toxic]] = {}
        for toxic in toxics:
            by_proxy.setdefault(toxic.proxy, []).append(toxic)

        def change_all(of_proxy: Sequence[Toxic]) -> None:
            for toxic in of_proxy:
                change(toxic)

        await asyncio.gather(*(asyncio.to_thread(change_all, of_proxy) for of_proxy in by_proxy.values()))

    def _add(self, toxic: Toxic) -> None:
        self._proxies[toxic.proxy].add_toxic(
            type=toxic.type, stream=toxic.stream, name=toxic.name, attributes=dict(toxic.attributes)
        )

    def _remove(self, toxic: Toxic) -> None:
        """The server gives up a request after 25 s and goes on with the work: then it is asked once more."""
        from toxiproxy.exceptions import NotFound

        for _ in range(REMOVE_ATTEMPTS):
            try:
                if self._proxies[toxic.proxy].destroy_toxic(toxic.name):
                    return
            except NotFound:
                return
        raise OSError(f"toxiproxy-server does not remove {toxic.name} from {toxic.proxy}")

    async def stop(self) -> None:
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)


async def _answering(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            if process.poll() is not None or asyncio.get_running_loop().time() > deadline:
                raise OSError(f"toxiproxy-server does not come up; its log is {log}") from None
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
