"""House rules that no linter knows. (Layers are import contracts in pyproject.toml; ``make verify`` checks those.)"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftmq.cli.main import VERBS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "raftmq"
PURE = ("raft", "records", "partition", "metadata", "groups", "exchanges")
GENERATED = (PACKAGE / "v1", PACKAGE / "internal")

FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
TEST_MODULE_LINES_MAX = 700
OVERLONG: dict[str, int] = {}
"""A ratchet: modules that have outgrown the limit, and may only shrink. None is to be added."""

FOR_TESTS = ("raftmq.rpc.memory", "raftmq.sim", "raftmq.storage.memory")
"""Ports in memory, and what is built of them: modules that only tests have to import."""

IMPURE_MODULES = {
    "asyncio", "concurrent", "contextvars", "datetime", "grpc", "io", "logging", "multiprocessing", "os", "pathlib",
    "queue", "rocksdict", "secrets", "select", "selectors", "signal", "socket", "structlog", "subprocess", "sys",
    "tempfile", "threading", "time", "uuid", "uvloop",
}  # fmt: skip
IMPURE_CALLS = {"open", "print", "input", "hash", "id"}
"""``hash`` and ``id`` differ from run to run; a trace must not."""
UNFINISHED = re.compile(r"\b(?:FIX" + r"ME|TO" + r"DO|X" + r"XX)\b")
"""Put together, so that this file does not find itself."""
UNWANTED_IN_TEXT = re.compile(r"/work/|/home/\w|/root/|\.\./shared|localhost:\d+/|issue #?\d", re.IGNORECASE)


def modules(root: Path = PACKAGE) -> list[Path]:
    """Hand-written modules, by path."""
    return [
        path
        for path in sorted(root.rglob("*.py"))
        if not any(generated in path.parents and "_pb2" in path.name for generated in GENERATED)
    ]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(module: ast.AST) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def impurities(module: ast.Module) -> list[str]:
    """What a pure module must not have: IO, clocks, threads, event loops, a random generator of its own."""
    found = [f"imports {target}" for target in imported(module) if target.split(".")[0] in IMPURE_MODULES]
    for node in ast.walk(module):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            found.append(f"line {node.lineno}: async")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            found.append(f"line {node.lineno}: {node.func.id}()")
        if _is_global_random(node):
            found.append(f"line {node.lineno}: global random")  # type: ignore[attr-defined]
    return found


def _is_global_random(node: ast.AST) -> bool:
    """``random.Random`` as a type or ``Random(seed)`` is fine; ``random.random()`` and the like are not."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "random"
        and not (node.func.attr == "Random" and node.args)
    )


@pytest.mark.parametrize("path", [path for package in PURE for path in modules(PACKAGE / package)], ids=name)
def test_pure_packages_are_pure(path: Path) -> None:
    assert impurities(tree(path)) == []


@pytest.mark.parametrize(
    "code",
    [
        "import time",
        "from os import path",
        "import asyncio.events",
        "async def f(): ...",
        "random.random()",
        "random.Random()",
        "open('x')",
        "hash(x)",
        "def f():\n    import socket",
    ],
)
def test_the_rule_of_purity_finds_what_it_is_for(code: str) -> None:
    assert len(impurities(ast.parse(code))) >= 1


def test_the_rule_of_purity_allows_a_generator_that_is_given() -> None:
    assert (
        impurities(ast.parse("import random\ndef f(rng: random.Random): return rng.random()\nrandom.Random(7)")) == []
    )


RUNS_ITS_INPUT = {"eval", "exec", "compile", "__import__"}
BUILDS_ANY_OBJECT = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}


def dangers(module: ast.Module) -> list[str]:
    """What would let input run code: loaders that build any object, evaluation, shells. A YAML loader has to be named,
    and to be a safe one's class (``_StrictLoader``); ``safe_load`` always is."""
    found = [f"imports {target}" for target in imported(module) if target.split(".")[0] in BUILDS_ANY_OBJECT]
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in RUNS_ITS_INPUT or called in ("os.system", "os.popen") or given.get("shell", "False") != "False":
            found.append(f"line {node.lineno}: {called}()")
        if called.startswith("asyncio.create_subprocess_shell"):
            found.append(f"line {node.lineno}: {called}()")
        if called == "yaml.load" and given.get("Loader") not in ("yaml.SafeLoader", "_StrictLoader"):
            found.append(f"line {node.lineno}: {called}()")
        if called in ("yaml.full_load", "yaml.unsafe_load", "yaml.load_all"):
            found.append(f"line {node.lineno}: {called}()")
    return found


@pytest.mark.parametrize("path", modules(), ids=name)
def test_no_input_can_run_code(path: Path) -> None:
    assert dangers(tree(path)) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from marshal import loads",
        "eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "await asyncio.create_subprocess_shell(text)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
    ],
)
def test_the_rule_against_running_input_finds_what_it_is_for(code: str) -> None:
    assert len(dangers(ast.parse(code))) >= 1


@pytest.mark.parametrize("path", modules(), ids=name)
def test_functions_are_short(path: Path) -> None:
    long = [
        f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


@pytest.mark.parametrize("path", [*modules(), *modules(ROOT / "tests")], ids=name)
def test_modules_are_short(path: Path) -> None:
    limit = TEST_MODULE_LINES_MAX if ROOT / "tests" in path.parents else MODULE_LINES_MAX
    assert len(path.read_text(encoding="utf-8").splitlines()) <= OVERLONG.get(name(path), limit)


@pytest.mark.parametrize("path", modules(), ids=name)
def test_modules_say_what_they_are_for(path: Path) -> None:
    assert ast.get_docstring(tree(path)), "a module without a docstring"


def test_every_module_is_imported_by_another() -> None:
    """A module that nobody imports is dead, or was forgotten."""
    used = {target for path in modules() for target in imported(tree(path))}
    entry_points = {"raftmq", "raftmq.__main__", "raftmq.chaos.wrapped"}
    entry_points |= {f"raftmq.cli.{module}" for module in VERBS.values()}
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in modules()}
    packages_of = {".".join(target.split(".")[:depth]) for target in used for depth in range(1, target.count(".") + 1)}
    by_tests = {target for path in modules(ROOT / "tests") for target in imported(tree(path))}
    used |= {target for target in by_tests if target.startswith(FOR_TESTS)}
    assert sorted(names - used - packages_of - entry_points) == []


def tracked() -> list[Path]:
    """Files that git knows, or would add; without git, none."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_nothing_is_left_unfinished() -> None:
    texts = [path for path in tracked() if path.suffix in (".py", ".md", ".proto", ".toml", ".yml", ".sh")]
    assert [name(path) for path in texts if UNFINISHED.search(path.read_text(encoding="utf-8"))] == []


def test_documents_speak_of_the_project_only() -> None:
    """No path of somebody's machine, no number of somebody's tracker."""
    documents = [path for path in tracked() if path.suffix in (".md", ".proto", ".yml", ".toml", ".py")]
    found = [
        f"{name(path)}: {match.group()}"
        for path in documents
        if path != Path(__file__)
        for match in UNWANTED_IN_TEXT.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_no_file_is_swallowed_by_mistake() -> None:
    """Data, caches and environments are ignored by git; nothing large is tracked."""
    large = [name(path) for path in tracked() if path.stat().st_size > 256 * 1024]
    assert large == []
