"""cluster.yml: what is accepted, and that every refusal names its place in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftmq import config
from raftmq.config import Address, ClusterConfig, ConfigError
from raftmq.ids import NodeId

NODES = """
cluster: test
nodes:
  - {id: 1, client_port: 9401, peer_port: 9501, http_port: 9601, data: n1, rack: a}
  - {id: 2, client_port: 9402, peer_port: 9502, http_port: 9602, data: n2, rack: b}
  - {id: 3, client_port: 9403, peer_port: 9503, http_port: 9603, data: n3, rack: c}
"""


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text)
    return caught.value.problems


def changed(old: str, new: str) -> str:
    assert old in NODES
    return NODES.replace(old, new)


def many_nodes(count: int) -> ClusterConfig:
    lines = [
        f"- {{id: {i}, client_port: {1000 + i}, peer_port: {2000 + i}, http_port: {3000 + i}, data: n{i}}}"
        for i in range(1, count + 1)
    ]
    return config.parse("\n".join(["cluster: test", "nodes:", *lines]))


def test_the_file_of_the_repository_is_three_nodes_on_loopback() -> None:
    loaded = config.load(Path(__file__).parent.parent / "cluster.yml")
    assert [node.id for node in loaded.nodes] == [1, 2, 3]
    assert {node.bind_host for node in loaded.nodes} == {"127.0.0.1"}
    assert (loaded.defaults.partitions, loaded.replication_factor, loaded.min_in_sync_replicas) == (3, 3, 2)
    assert len({node.rack for node in loaded.nodes}) == 3


def test_what_the_repository_file_shows_as_default_is_the_default() -> None:
    text = (Path(__file__).parent.parent / "cluster.yml").read_text()
    shown = text.replace("  # heartbeat", "  heartbeat")
    for section in (config.Timeouts, config.Limits):
        for key in section.model_fields:
            shown = shown.replace(f"  # {key}:", f"  {key}:")
            assert f"  {key}:" in shown
    assert config.parse(shown) == config.parse(text)


def test_data_directories_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yml"
    file.write_text(NODES)
    assert config.load(file).node(2).data_directory == tmp_path / "n2"


def test_a_node_sees_its_addresses_and_where_to_dial_the_others() -> None:
    text = changed("data: n1", "data: n1, advertised_client_host: broker-1, peer_overrides: {2: '127.0.0.1:19502'}")
    node = config.parse(text).node(1)
    assert (str(node.client_bind), str(node.peer_bind), str(node.http_bind)) == (
        "127.0.0.1:9401",
        "127.0.0.1:9501",
        "127.0.0.1:9601",
    )
    assert str(node.client_address) == "broker-1:9401"
    assert node.peers == (NodeId(2), NodeId(3))
    assert node.dial(NodeId(2)) == Address("127.0.0.1", 19502)
    assert node.dial(NodeId(3)) == Address("127.0.0.1", 9503)


def test_a_node_that_is_not_in_the_file_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="there is no node 9; there are 1, 2, 3"):
        config.parse(NODES).node(9)


def test_defaults_follow_the_number_of_nodes() -> None:
    assert [(many_nodes(n).replication_factor, many_nodes(n).min_in_sync_replicas) for n in (1, 2, 3, 7)] == [
        (1, 1),
        (2, 2),
        (3, 2),
        (3, 2),
    ]


def test_an_empty_section_has_its_defaults() -> None:
    assert config.parse(NODES + "timeouts:\nlimits:\n") == config.parse(NODES)


def test_what_is_dumped_is_read_back() -> None:
    text = changed("data: n1", "data: n1, peer_overrides: {2: '[::1]:19502'}") + "insecure: true"
    assert config.parse(config.dump(config.parse(text))) == config.parse(text)


# -- the seed ----------------------------------------------------------------------------------------------------


def test_the_first_five_nodes_vote() -> None:
    assert many_nodes(7).initial_voters == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("old", "new"),
    [("cluster: test", "cluster: other"), ("id: 3", "id: 4"), ("9503", "9513"), ("data: n3", "data: n3, host: '::1'")],
)
def test_the_seed_digest_changes_with_what_forms_the_cluster(old: str, new: str) -> None:
    assert config.parse(changed(old, new)).seed_digest != config.parse(NODES).seed_digest


@pytest.mark.parametrize(
    ("old", "new"),
    [("data: n3", "data: other"), ("9403", "9413"), ("data: n1", "data: n1, peer_overrides: {2: 'a:1'}")],
)
def test_the_seed_digest_is_the_same_whatever_may_differ_between_nodes(old: str, new: str) -> None:
    assert config.parse(changed(old, new)).seed_digest == config.parse(NODES).seed_digest


def test_the_seed_digest_covers_initial_voters_only() -> None:
    assert many_nodes(6).seed_digest == many_nodes(5).seed_digest != many_nodes(4).seed_digest


# -- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            changed("9502", "9501"), "nodes[1].peer_port: 9501 is already used by node 1", id="port-of-other-node"
        ),
        pytest.param(
            changed("9601", "9401"), "nodes[0].http_port: 9401 is already used by node 1", id="port-of-same-node"
        ),
        pytest.param(changed("id: 3", "id: 1"), "nodes[2].id: 1 is already used by another node", id="id"),
        pytest.param(
            changed("n3", "/tmp/../tmp/n").replace("data: n2", "data: /tmp/n"),
            "nodes[2].data: /tmp/n is already used by node 2",
            id="data",
        ),
        pytest.param(
            NODES + "defaults: {replication_factor: 5}",
            "defaults.replication_factor: 5 replicas need as many nodes; there are 3",
            id="replication-factor",
        ),
        pytest.param(
            NODES + "defaults: {min_in_sync_replicas: 1}",
            "defaults.min_in_sync_replicas: 1 must lie between the majority (2) and the number of replicas (3)",
            id="below-majority",
        ),
        pytest.param(
            NODES + "defaults: {min_in_sync_replicas: 4}",
            "defaults.min_in_sync_replicas: 4 must lie between the majority (2) and the number of replicas (3)",
            id="above-replicas",
        ),
        pytest.param(
            NODES + "timeouts: {election_timeout_ms: 999}",
            "timeouts.election_timeout_ms: 999 must be at least ten times heartbeat_interval_ms (1000), "
            "or lost heartbeats will cost leaders",
            id="election-timeout",
        ),
        pytest.param(
            NODES + "timeouts: {session_timeout_ms: 1999}",
            "timeouts.session_timeout_ms: 1999 must be at least twice election_timeout_ms (2000), "
            "or every election will fence nodes",
            id="session-timeout",
        ),
        pytest.param(
            NODES + "limits: {max_message_bytes: 1048576}",
            "limits.max_message_bytes: 1048576 cannot carry a batch of limits.max_batch_bytes; "
            "it must be at least 1114112",
            id="message-smaller-than-batch",
        ),
        pytest.param(
            changed("data: n1", "data: n1, peer_overrides: {4: 'a:1'}"),
            "nodes[0].peer_overrides.4: there is no other node 4",
            id="override-of-nobody",
        ),
        pytest.param(
            changed("data: n1", "data: n1, peer_overrides: {2: 'nowhere'}"),
            "nodes[0].peer_overrides.2: 'nowhere' is not HOST:PORT",
            id="override-of-nowhere",
        ),
        pytest.param(
            NODES + "timeouts: {heartbeat_interval: 5}",
            "timeouts.heartbeat_interval: unknown key; did you mean 'heartbeat_interval_ms'?",
            id="unknown-key-in-section",
        ),
        pytest.param(
            changed("9602", "9602, clientport: 1"),
            "nodes[1].clientport: unknown key; did you mean 'client_port'?",
            id="unknown-key-of-node",
        ),
        pytest.param(NODES + "node: []", "node: unknown key; did you mean 'nodes'?", id="unknown-key"),
        pytest.param(changed("data: n1, ", ""), "nodes[0].data: this key is required", id="missing"),
        pytest.param(changed("9401", "'9401'"), "nodes[0].client_port: '9401' should be a valid integer", id="type"),
        pytest.param(
            changed("9401", "70000"),
            "nodes[0].client_port: 70000 should be less than or equal to 65535",
            id="port-range",
        ),
        pytest.param(
            changed("id: 1", "id: 2147483648"),
            "nodes[0].id: 2147483648 should be less than or equal to 2147483647",
            id="id-range",
        ),
        pytest.param(NODES + "limits: 3", "limits: 3 should be a mapping", id="section-type"),
        pytest.param("cluster: test\nnodes: []", "nodes: there must be at least one", id="no-nodes"),
        pytest.param(
            changed("cluster: test", "cluster: -x"),
            "cluster: '-x' is no name: 1 to 63 of a-z, A-Z, 0-9, '.', '_', '-', no sign first",
            id="name",
        ),
        pytest.param(
            changed("data: n1", "data: n1, host: 0.0.0.0"),
            "nodes[0].host: 0.0.0.0 is no address that others can dial; put it under 'bind'",
            id="wildcard-host",
        ),
        pytest.param(
            changed("data: n1", "data: n1, host: 'a b'"),
            "nodes[0].host: 'a b' is not a host name or IP address",
            id="host",
        ),
        pytest.param(changed("data: n1", "data: ''"), "nodes[0].data: names no directory", id="no-directory"),
    ],
)
def test_a_mistake_is_named_by_its_path(text: str, problem: str) -> None:
    assert problems(text) == (problem,)


@pytest.mark.parametrize("key", ["host", "bind"])
def test_an_open_listener_takes_the_word_insecure(key: str) -> None:
    text = changed("data: n1", f"data: n1, {key}: 10.1.2.3")
    (problem,) = problems(text)
    assert problem.startswith(f"nodes[0].{key}: 10.1.2.3 is open to the network")
    assert config.parse(text + "insecure: true").insecure


@pytest.mark.parametrize("host", ["localhost", "127.0.0.7", "::1"])
def test_loopback_takes_no_word(host: str) -> None:
    assert config.parse(changed("data: n1", f"data: n1, host: '{host}'")).nodes[0].host == host


def test_nodes_on_different_hosts_may_have_the_same_ports_and_directories() -> None:
    entry = "client_port: 1, peer_port: 2, http_port: 3, data: /var/lib/raftmq"
    text = f"cluster: test\ninsecure: true\nnodes: [{{id: 1, host: a, {entry}}}, {{id: 2, host: b, {entry}}}]"
    assert config.parse(text).node(2).peer_address == Address("b", 2)


def test_all_mistakes_are_told_at_once() -> None:
    assert len(problems(changed("9502", "9501").replace("9603", "9403"))) == 2


def test_a_syntax_error_has_its_line() -> None:
    (problem,) = problems("cluster: test\nnodes: [\n  {id: 1\n")
    assert problem.startswith("line 4, column 1: ")


def test_a_key_that_stands_twice_is_refused() -> None:
    assert problems(NODES + "cluster: other\n") == ("line 7, column 1: the key 'cluster' stands twice",)


@pytest.mark.parametrize("text", ["", "- 1", "just text"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    assert problems(text) == ("the file must be a mapping with the keys 'cluster' and 'nodes'",)


def test_a_tag_that_would_build_an_object_is_refused() -> None:
    (problem,) = problems("cluster: !!python/object/apply:os.getcwd []")
    assert "could not determine a constructor" in problem


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory; name one with --config"):
        config.load(tmp_path / "cluster.yml")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cluster.yml").write_bytes(b"cluster: \xff")
    with pytest.raises(ConfigError, match="not UTF-8 text: invalid start byte at byte 9"):
        config.load(tmp_path / "cluster.yml")


@pytest.mark.parametrize(
    ("text", "address"), [("a.example:1", Address("a.example", 1)), ("[::1]:65535", Address("::1", 65535))]
)
def test_an_address_survives_the_round_trip(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["", "a", ":1", "a:", "a:0", "a:65536", "a:-1", "::1:5", "a:1x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|brackets"):
        Address.parse(text)


def test_every_key_stands_in_the_reference() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    sections = {"nodes", "defaults", "timeouts", "limits"}
    keys = set(ClusterConfig.model_fields) - sections | set(config.NodeEntry.model_fields)
    keys |= set(config.Defaults.model_fields) | set(config.Timeouts.model_fields) | set(config.Limits.model_fields)
    assert [key for key in sorted(keys) if f"{key}`" not in readme] == []
