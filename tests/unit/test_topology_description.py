"""Descriptions of machines as JSON: what is written is read again, and what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.machines import machine

from cpuruntime.errors import InvalidArgumentError
from cpuruntime.host.description import MOST
from cpuruntime.host.processors import Cache, Cpu
from cpuruntime.host.topology import Topology

MACHINES = {
    "plain": machine([[4, 4, 0, 0, 0, 0]]),
    "hybrid": machine([[20, 6, 8, 6, 0, 0]], quota=3, caches=(Cache(2, 2**21, (6, 7, 8, 9)), Cache(3, 2**25, (0, 14)))),
    "two sockets, the caller on the second": machine(
        [[16, 8, 0, 8, -1, -1], [8, 4, 0, 4, 1, 1], [8, 4, 0, 4, 0, 0]], caches=(Cache(1, 32768, (0,)),)
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_what_is_written_is_read_again(name: str) -> None:
    topology = MACHINES[name]
    text = topology.to_json()
    assert Topology.from_json(text) == topology
    assert Topology.from_json(text).to_json() == text


def test_this_machine(tmp_path: Path) -> None:
    topology = Topology.read()
    again = Topology.from_json(topology.to_json())
    assert (again.quota, again.caches, again.node) == (topology.quota, topology.caches, topology.node)
    assert [cpu.index for cpu in again.cpus] == [cpu.index for cpu in topology.cpus]
    assert again.ranks() == topology.ranks()


def test_only_cores_are_needed() -> None:
    topology = Topology.from_json('{"cores": [{"cpus": ["2,5", "3"]}]}')
    assert topology == Topology((Cpu(2, 2), Cpu(3, 3), Cpu(5, 2)))


def description(**changes: Any) -> dict[str, Any]:
    return {
        "quota": 2,
        "node": 0,
        "cores": [{"type": "P", "socket": 0, "node": 0, "cpus": ["0,2", "1"]}],
        "caches": [{"level": 2, "bytes": 1024, "cpus": ["0,2"]}],
        **changes,
    }


def core(**changes: Any) -> dict[str, Any]:
    return description(cores=[{"cpus": ["0,2", "1"], **changes}])


def cache(**changes: Any) -> dict[str, Any]:
    return description(caches=[{"level": 2, "bytes": 1024, "cpus": ["0,2"], **changes}])


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ([], "the topology is []; it must be an object"),
        ({}, "the topology has no field 'cores'"),
        (description(Cores=1), "unknown field 'Cores'. Did you mean 'cores'? It may have: cores, quota, node, caches"),
        (description(quota=0), "quota is 0; it must be an integer >= 1"),
        (description(quota=1.5), "quota is 1.5"),
        (description(quota=True), "quota is true"),
        (description(node=1), "node is 1; it must be one of the cores' nodes, 0"),
        (description(node="0"), 'node is "0"; it must be an integer >= 0'),
        (description(cores={}), "cores is {}; it must be a list of objects"),
        (description(cores=[]), "cores is []; it must be a list with at least one processor"),
        (description(cores=[3]), "cores[0] is 3; it must be an object"),
        (description(cores=[{"type": "P"}]), "cores[0] has no field 'cpus'"),
        (core(type="LP"), 'cores[0].type is "LP"; it must be P or E'),
        (core(type=["P"]), 'cores[0].type is ["P"]'),
        (core(socket=-1), "cores[0].socket is -1; it must be an integer >= 0"),
        (core(node=None), "cores[0].node is null"),
        (core(cpus="0-3"), 'cores[0].cpus is "0-3"; it must be a list of strings as ["0,4", "1,5"]'),
        (core(cpus=[0]), "cores[0].cpus[0] is 0; it must be processors below 8192"),
        (core(cpus=["0", ""]), 'cores[0].cpus[1] is ""'),
        (core(cpus=["0", "3-1"]), 'cores[0].cpus[1] is "3-1"'),
        (core(cpus=["3-0,5"]), 'cores[0].cpus[0] is "3-0,5"; it must be processors below 8192 as "0-3,8", each range'),
        (core(cpus=["3-0"]), 'cores[0].cpus[0] is "3-0"; it must be processors below 8192 as "0-3,8", each range'),
        (cache(cpus=["0,2-1"]), 'caches[0].cpus[0] is "0,2-1"'),
        (core(cpus=["0", "1,,2"]), 'cores[0].cpus[1] is "1,,2"'),
        (core(cpus=["-1"]), 'cores[0].cpus[0] is "-1"'),
        (core(cpus=["²"]), "cores[0].cpus[0] is"),
        (core(cpus=[f"{MOST}"]), f'cores[0].cpus[0] is "{MOST}"'),
        (core(cpus=["0-99999999999"]), "cores[0].cpus[0] is"),
        (core(cpus=["0,1", "1"]), "cores[0].cpus[1] names processor 1 a second time"),
        (cache(level=0), "caches[0].level is 0; it must be an integer >= 1"),
        (cache(bytes="1M"), 'caches[0].bytes is "1M"'),
        (cache(cpus=["0-3"]), "caches[0].cpus[0] names processor 3, which no core has"),
        (cache(size=3), "caches[0] has the unknown field 'size'"),
        (description(caches=None), "caches is null; it must be a list of objects"),
    ],
)
def test_what_is_wrong_is_named(document: Any, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Topology.from_json(json.dumps(document))
    assert complaint in str(caught.value)
    assert str(caught.value).startswith("Topology: ")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"cores": [{"cpus": ["0"]}], "quota": 1, "quota": 8}', "quota"),
        ('{"cores": [{"cpus": ["0"]}], "cores": [{"cpus": ["1"]}]}', "cores"),
        ('{"cores": [{"cpus": ["0"], "node": 0, "node": 0}]}', "node"),
    ],
)
def test_a_field_that_is_there_twice_is_refused(text: str, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"Topology: an object has the field '{name}' a second time"):
        Topology.from_json(text)


@pytest.mark.parametrize("text", [None, 3, b"{}", {"cores": [{"cpus": ["0"]}]}])
def test_what_is_no_text_is_refused(text: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"The topology is .*; it must be the text of a JSON description"):
        Topology.from_json(text)


@pytest.mark.parametrize("text", ["", "{", "\x00", "[" * 100_000])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="The topology is not JSON"):
        Topology.from_json(text)
