"""The JSON description of a machine's processors, written by one machine and read by any.

    {
      "quota": 8,
      "node": 0,
      "cores": [
        {"type": "P", "socket": 0, "node": 0, "cpus": ["0,12", "1,13", "2,14"]},
        {"type": "E", "socket": 0, "node": 0, "cpus": ["3", "4", "5", "6"]}
      ],
      "caches": [
        {"level": 2, "bytes": 2097152, "cpus": ["0,12", "1,13", "2,14", "3-6"]},
        {"level": 3, "bytes": 31457280, "cpus": ["0-6,12-14"]}
      ]
    }

Each string of "cores" holds the processors of one physical core, and each of "caches" those that share one cache.
Only "cores" is required; by default there is no quota, "node" (the one the caller runs on) is the first
processor's, a core is of type P on socket 0 and node 0, and no cache is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

from cpuruntime.errors import InvalidArgumentError, nearest
from cpuruntime.host.processors import Cache, CoreType, Cpu, cpu_list, parse_cpu_list

MOST = 8192
"""Processors of a machine; Linux has no more."""

_CPU_LIST = re.compile(r"\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*")


def write(cpus: Sequence[Cpu], quota: int | None, caches: Sequence[Cache], node: int) -> str:
    """The description as text that reads well: a line for each group of equal cores or caches."""
    siblings: dict[int, list[int]] = {}
    groups: dict[tuple[str, int, int], list[int]] = {}
    for cpu in cpus:
        if cpu.core not in siblings:
            groups.setdefault((cpu.type, cpu.socket, cpu.node), []).append(cpu.core)
        siblings.setdefault(cpu.core, []).append(cpu.index)
    cores = [
        {"type": type, "socket": socket, "node": place, "cpus": [cpu_list(siblings[core]) for core in group]}
        for (type, socket, place), group in groups.items()
    ]
    sizes: dict[tuple[int, int], list[str]] = {}
    for cache in caches:
        sizes.setdefault((cache.level, cache.size), []).append(cpu_list(cache.cpus))
    shared = [{"level": level, "bytes": size, "cpus": lists} for (level, size), lists in sizes.items()]
    fields = [f'  "quota": {json.dumps(quota)}', f'  "node": {node}']
    for name, rows in (("cores", cores), ("caches", shared)):
        lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
        fields.append(f'  "{name}": [\n{lines}\n  ]' if rows else f'  "{name}": []')
    return "{\n" + ",\n".join(fields) + "\n}\n"


def parse(text: str) -> tuple[tuple[Cpu, ...], int | None, tuple[Cache, ...], int]:
    """Processors, quota, caches and the caller's node of a description.

    Raises:
        InvalidArgumentError: the message names the field, its value and the rule.
    """
    if not isinstance(text, str):
        raise InvalidArgumentError(f"The topology is {text!r:.60}; it must be the text of a JSON description.")
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except InvalidArgumentError:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"The topology is not JSON: {error}.") from None
    _check_fields(document, "the topology", ("cores",), ("quota", "node", "caches"))
    quota = document.get("quota")
    if quota is not None:
        _integer(quota, "quota", 1)
    cpus = tuple(sorted(_cpus(document["cores"]), key=lambda cpu: cpu.index))
    node = _integer(document.get("node", cpus[0].node), "node", 0)
    if all(cpu.node != node for cpu in cpus):
        raise _wrong("node", node, f"one of the cores' nodes, {cpu_list({cpu.node for cpu in cpus})}")
    caches = tuple(_caches(document.get("caches", []), {cpu.index for cpu in cpus}))
    return cpus, quota, caches, node


def _cpus(groups: Any) -> Iterator[Cpu]:
    seen: set[int] = set()
    for where, group in _rows(groups, "cores", ("cpus",), ("type", "socket", "node")):
        kind = group.get("type", "P")
        if kind not in get_args(CoreType):
            raise _wrong(f"{where}.type", kind, "P or E")
        socket, node = (_integer(group.get(name, 0), f"{where}.{name}", 0) for name in ("socket", "node"))
        for field, siblings in _lists(group["cpus"], f"{where}.cpus"):
            for index in siblings:
                if index in seen:
                    raise InvalidArgumentError(f"Topology: {field} names processor {index} a second time.")
                seen.add(index)
                yield Cpu(index, min(siblings), node, socket, kind)
    if not seen:
        raise _wrong("cores", groups, "a list with at least one processor")


def _caches(groups: Any, known: set[int]) -> Iterator[Cache]:
    for where, group in _rows(groups, "caches", ("level", "bytes", "cpus"), ()):
        level = _integer(group["level"], f"{where}.level", 1)
        size = _integer(group["bytes"], f"{where}.bytes", 1)
        for field, cpus in _lists(group["cpus"], f"{where}.cpus"):
            if unknown := sorted(set(cpus) - known):
                raise InvalidArgumentError(f"Topology: {field} names processor {unknown[0]}, which no core has.")
            yield Cache(level, size, tuple(sorted(cpus)))


def _rows(rows: Any, name: str, needed: Sequence[str], optional: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(rows, list):
        raise _wrong(name, rows, "a list of objects")
    for position, row in enumerate(rows):
        where = f"{name}[{position}]"
        _check_fields(row, where, needed, optional)
        yield where, row


def _lists(texts: Any, where: str) -> Iterator[tuple[str, list[int]]]:
    """Each string of a list as the processors it names."""
    if not isinstance(texts, list):
        raise _wrong(where, texts, 'a list of strings as ["0,4", "1,5"]')
    for position, text in enumerate(texts):
        field = f"{where}[{position}]"
        try:
            numbers = parse_cpu_list(text) if isinstance(text, str) and _CPU_LIST.fullmatch(text) else []
        except ValueError:
            numbers = []
        if not numbers or max(numbers) >= MOST:
            raise _wrong(field, text, f'processors below {MOST} as "0-3,8", each range from its lower to its upper end')
        yield field, numbers


def _object(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are all different."""
    found: dict[str, Any] = {}
    for name, value in fields:
        if name in found:
            raise InvalidArgumentError(f"Topology: an object has the field '{name}' a second time.")
        found[name] = value
    return found


def _check_fields(value: Any, where: str, needed: Iterable[str], optional: Iterable[str]) -> None:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    names = [*needed, *optional]
    for name in value:
        if name not in names:
            raise InvalidArgumentError(
                f"Topology: {where} has the unknown field '{name}'.{nearest(name, names)} It may have: "
                f"{', '.join(names)}."
            )
    for name in needed:
        if name not in value:
            raise InvalidArgumentError(f"Topology: {where} has no field '{name}'.")


def _integer(value: Any, where: str, least: int) -> int:
    if type(value) is not int or value < least:
        raise _wrong(where, value, f"an integer >= {least}")
    return value


def _wrong(where: str, value: Any, rule: str) -> InvalidArgumentError:
    shown = json.dumps(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return InvalidArgumentError(f"Topology: {where} is {shown}; it must be {rule}.")
