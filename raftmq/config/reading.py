"""From the text of a file to checked models, with findings in the file's own terms."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from raftmq.config.models import ClusterConfig, ConfigError, Defaults, Limits, NodeEntry, Timeouts


def load(path: Path | str) -> ClusterConfig:
    """Read and check a file. Raises ConfigError, whose text names the file, the path in it and what to do."""
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        hint = "name one with --config" if isinstance(error, FileNotFoundError) else "check its permissions"
        raise ConfigError(str(path), [f"{error.strerror or error}; {hint}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [f"not UTF-8 text: {error.reason} at byte {error.start}"]) from error
    return parse(text, source=str(path), base=file.resolve().parent)


def parse(text: str, *, source: str = "cluster.yml", base: Path | None = None) -> ClusterConfig:
    """Check the text of a file; `base` is what its relative paths are relative to. Raises ConfigError."""
    try:
        # A SafeLoader: the rule against yaml.load is about loaders that build any object.
        document = yaml.load(text, Loader=_StrictLoader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(source, [f"{where}{error.problem or error.context}"]) from error
    except (yaml.YAMLError, ValueError, TypeError) as error:  # the last two: dates that are none, lists as keys
        raise ConfigError(source, [str(error)]) from error
    if not isinstance(document, dict):
        raise ConfigError(source, ["the file must be a mapping with the keys 'cluster' and 'nodes'"])
    try:
        return ClusterConfig.model_validate(document, context={"base": base or Path.cwd()})
    except ValidationError as error:
        lines = [line for detail in error.errors() for line in _explain(detail)]
        raise ConfigError(source, lines) from error


def dump(config: ClusterConfig) -> str:
    """The text of a file that ``parse`` reads back as `config`."""
    return yaml.safe_dump(config.model_dump(exclude_none=True), sort_keys=False)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key that stands twice, of which YAML would silently keep the last, and depths that no
    configuration has: the time that YAML takes grows with their square."""

    DEPTH_MAX = 20
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self._depth >= self.DEPTH_MAX:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "this is nested too deeply", mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _explain(detail: ErrorDetails) -> list[str]:
    location = detail["loc"]
    if not location:  # from _check_relations: lines that have their path already
        return str(detail["ctx"]["error"]).splitlines()
    path = ""
    for step in location:
        if step == "[key]":
            continue
        path += f"[{step}]" if isinstance(step, int) and not path.endswith("peer_overrides") else f".{step}"
    path = path.removeprefix(".")
    if detail["type"] == "extra_forbidden":
        return [f"{path}: unknown key{_suggest(location)}"]
    if detail["type"] == "missing":
        return [f"{path}: this key is required"]
    if detail["type"] == "value_error":
        return [f"{path}: {detail['ctx']['error']}"]
    if detail["type"] in ("model_type", "dict_type"):
        return [f"{path}: {_shown(detail['input'])} should be a mapping"]
    message = detail["msg"].removeprefix("Input ")
    return [f"{path}: {_shown(detail['input'])} {message}" if message != detail["msg"] else f"{path}: {message}"]


def _shown(value: object) -> str:
    """`value`, cut short: aliases let a few lines of YAML stand for more than there is memory."""
    short = reprlib.Repr()
    short.maxstring = short.maxlong = short.maxother = 100
    return short.repr(value)


_SECTIONS: dict[str, type[BaseModel]] = {
    "nodes": NodeEntry,
    "defaults": Defaults,
    "timeouts": Timeouts,
    "limits": Limits,
}


def _suggest(location: tuple[int | str, ...]) -> str:
    *parents, key = location
    model = _SECTIONS[str(parents[0])] if parents else ClusterConfig
    close = difflib.get_close_matches(str(key), list(model.model_fields), n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; there are: {', '.join(model.model_fields)}"
