"""The committed stubs are what ``make proto`` would write now, and the protocol files are in order."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def generated(directory: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in sorted(directory.rglob("*_pb2*"))
        if file.suffix in (".py", ".pyi")
    }


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the generators write for ``proto/`` now."""
    target = tmp_path_factory.mktemp("stubs")
    protos = sorted(str(file) for file in (ROOT / "proto").rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}"]
    command += [f"--plugin=protoc-gen-{name}={BIN / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
    command += [f"--python_out={target}", f"--grpc_python_out={target}"]
    command += [f"--mypy_out=quiet:{target}", f"--mypy_grpc_out=quiet:{target}"]
    ended = subprocess.run([*command, *protos], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return generated(target)


def test_the_committed_stubs_are_fresh(fresh: dict[str, bytes]) -> None:
    committed = {f"raftmq/{name}": content for name, content in generated(ROOT / "raftmq").items()}
    assert sorted(committed) == sorted(fresh)
    stale = [name for name, content in fresh.items() if committed[name] != content]
    assert stale == [], "run 'make proto'"


def test_there_is_something_to_compare(fresh: dict[str, bytes]) -> None:
    assert {"raftmq/v1/broker_pb2.py", "raftmq/internal/v1/peer_pb2_grpc.pyi"} <= set(fresh)


def test_the_committed_descriptor_set_is_fresh(tmp_path: Path) -> None:
    """For tools and languages that read one instead of the .proto files; it needs no other file."""
    fresh = tmp_path / "fresh.binpb"
    protos = sorted(str(file) for file in (ROOT / "proto" / "raftmq" / "v1").glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", "--include_imports"]
    command += ["--include_source_info", f"--descriptor_set_out={fresh}", *protos]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (ROOT / "raftmq" / "v1" / "descriptors.binpb").read_bytes() == fresh.read_bytes(), "run 'make proto'"
    described = FileDescriptorSet.FromString(fresh.read_bytes())
    names = {file.name for file in described.file}
    assert {"raftmq/v1/broker.proto", "google/protobuf/duration.proto"} <= names
    assert not any("internal" in name for name in names)


@pytest.mark.parametrize("tool", ["grpcio-tools", "mypy-protobuf"])
def test_the_generators_are_those_of_pyproject(tool: str) -> None:
    """Another version writes other bytes: pinned there, so that everybody generates the same."""
    pinned = next(r for r in distribution("raftmq").requires or () if r.startswith(tool))
    assert pinned.split(";")[0].strip() == f"{tool}=={distribution(tool).version}"


def test_buf_lint_passes() -> None:
    ended = subprocess.run([BIN / "buf", "lint", ROOT / "proto"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stdout + ended.stderr
