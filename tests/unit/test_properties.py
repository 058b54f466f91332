"""Properties: declarations, parsing, the environment, OpenVINO's spellings."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest
from support.house import ROOT

import cpuruntime.properties as props
import cpuruntime.properties.hint as hints
import cpuruntime.properties.streams as streams
from cpuruntime.errors import InvalidArgumentError, UnsupportedError
from cpuruntime.graph import Type
from cpuruntime.properties import (
    OTHER_VARIABLES,
    PROPERTIES,
    Settings,
    check_environment,
    from_environment,
    of_device,
    parse,
)
from cpuruntime.properties.declaration import Integer, Number, declared

_VARIABLE = re.compile("CPURUNTIME_[A-Z_]+")


@pytest.mark.parametrize("declaration", PROPERTIES.values(), ids=str)
def test_every_declaration_is_complete_and_its_default_legal(declaration: props.Property) -> None:
    assert declaration.doc.endswith(".")
    assert declaration.values.rule
    assert declaration.mutability in ("RO", "RW", "WO")
    if declaration.writable:
        assert declaration.parse(declaration.default) == declaration.default
        assert declaration.parse(declaration.values.text(declaration.default)) == declaration.default


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("PERFORMANCE_HINT", "THROUGHPUT", hints.PerformanceMode.THROUGHPUT),
        ("PERFORMANCE_HINT", "latency", hints.PerformanceMode.LATENCY),
        ("PERFORMANCE_HINT", hints.PerformanceMode.CUMULATIVE_THROUGHPUT, hints.PerformanceMode.CUMULATIVE_THROUGHPUT),
        ("NUM_STREAMS", 3, 3),
        ("NUM_STREAMS", "3", 3),
        ("NUM_STREAMS", 0, 0),
        ("NUM_STREAMS", "AUTO", -1),
        ("NUM_STREAMS", -2, -2),
        ("NUM_STREAMS", streams.Num.NUMA, -2),
        ("NUM_STREAMS", streams.Num(4), 4),
        ("NUM_STREAMS", np.int32(5), 5),
        ("PERF_COUNT", "YES", True),
        ("PERF_COUNT", "no", False),
        ("PERF_COUNT", "true", True),
        ("PERF_COUNT", False, False),
        ("INFERENCE_PRECISION_HINT", "f32", Type.f32),
        ("INFERENCE_PRECISION_HINT", "FP32", Type.f32),
        ("INFERENCE_PRECISION_HINT", Type.f32, Type.f32),
    ],
)
def test_values_are_taken_as_objects_and_as_text(name: str, given: Any, expected: Any) -> None:
    found = PROPERTIES[name].parse(given)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "given", "parts"),
    [
        ("PERFORMANCE_HINT", "THROUGPUT", ["'THROUGPUT'", "one of LATENCY", "Did you mean 'THROUGHPUT'?"]),
        ("PERFORMANCE_HINT", hints.ExecutionMode.ACCURACY, ["PERFORMANCE_HINT", "one of LATENCY"]),
        ("PERFORMANCE_HINT", 1, ["1 is not one of"]),
        ("NUM_STREAMS", -3, ["-3 is not an integer >= 0 and <= 8192 in digits 0-9, or AUTO (-1) or NUMA (-2)"]),
        ("NUM_STREAMS", 2.5, ["2.5 is not an integer"]),
        ("NUM_STREAMS", True, ["True is not an integer"]),
        ("NUM_STREAMS", "many", ["'many' is not an integer"]),
        ("NUM_STREAMS", "ATUO", ["Did you mean 'AUTO'?"]),
        ("INFERENCE_NUM_THREADS", -1, ["INFERENCE_NUM_THREADS: -1 is not an integer >= 0 and <= 8192 in"]),
        ("PERF_COUNT", "maybe", ["True or False"]),
        ("PERF_COUNT", 1, ["1 is not True or False"]),
        ("INFERENCE_PRECISION_HINT", "i8", ["'i8' is not one of f32"]),
        ("INFERENCE_PRECISION_HINT", 32, ["32 is not one of f32"]),
        ("FULL_DEVICE_NAME", "x", ["FULL_DEVICE_NAME is read only"]),
    ],
)
def test_wrong_values_are_refused_with_value_and_rule(name: str, given: Any, parts: list[str]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        PROPERTIES[name].parse(given)
    for part in parts:
        assert part in str(caught.value)


NOT_PLAIN = ["1_0", "\u0663", "\uff13", " 3", "3\n", "+3", "0x3", "3.", "1e1", "", "--3"]


@pytest.mark.parametrize("given", NOT_PLAIN)
@pytest.mark.parametrize("name", [name for name, one in PROPERTIES.items() if isinstance(one.values, Integer)])
def test_integers_as_text_are_plain_digits(name: str, given: str) -> None:
    message = rf"{name}: {re.escape(repr(given))} is not an integer .* digits 0-9"
    with pytest.raises(InvalidArgumentError, match=message):
        PROPERTIES[name].parse(given)


@pytest.mark.parametrize("given", ["1_0", "\u0663", " 3", "3 ", "nan", "inf", "0x3", "1e", ".", ""])
def test_numbers_as_text_are_plain_digits(given: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"is not a number >= 0 and < 1000000 in digits 0-9"):
        hints.latency_target_ms.parse(given)
    plain = {"20": 20, "2.5": 2.5, ".5": 0.5, "5.": 5, "1e-3": 1e-3}
    assert {text: hints.latency_target_ms.parse(text) for text in plain} == plain


@pytest.mark.parametrize("name", [name for name, one in PROPERTIES.items() if isinstance(one.values, Integer | Number)])
@pytest.mark.parametrize("size", [10**7, 10**30, 10**400, 10**5000], ids=["7", "30", "400", "5000"])
def test_absurd_sizes_are_refused_with_the_rule(name: str, size: int) -> None:
    for given in (size, "9" * 30):
        with pytest.raises(InvalidArgumentError, match=rf"{name}: .* is not {re.escape(PROPERTIES[name].values.rule)}"):
            PROPERTIES[name].parse(given)


@pytest.mark.parametrize(("name", "largest"), [("NUM_STREAMS", 8192), ("TUNING_BUDGET_MS", 1_000_000)])
def test_the_largest_size_is_taken(name: str, largest: int) -> None:
    assert PROPERTIES[name].parse(largest) == PROPERTIES[name].parse(str(largest)) == largest
    with pytest.raises(InvalidArgumentError, match=f"{largest + 1} is not an integer >= 0 and <= {largest}"):
        PROPERTIES[name].parse(largest + 1)


@pytest.mark.parametrize("precision", ["bf16", "f16", "dynamic", Type.bf16])
def test_a_precision_that_is_not_there_is_refused_and_never_replaced(precision: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"INFERENCE_PRECISION_HINT.*use one of f32"):
        PROPERTIES["INFERENCE_PRECISION_HINT"].parse(precision)


def test_an_unknown_name_suggests_the_nearest_and_lists_all() -> None:
    known = {name: PROPERTIES[name] for name in ("NUM_STREAMS", "PERF_COUNT")}
    with pytest.raises(InvalidArgumentError, match=r"'NUM_STREAM' of device X. Did you mean 'NUM_STREAMS'\?") as caught:
        parse({"NUM_STREAM": 1}, known, "device X")
    assert "It has: NUM_STREAMS, PERF_COUNT." in str(caught.value)
    with pytest.raises(InvalidArgumentError, match="Unknown property 7"):
        declared(7, known, "device X")


def test_a_configuration_is_a_mapping_by_name_or_property() -> None:
    found = parse({props.num_streams: "2", "PERF_COUNT": "YES"}, PROPERTIES, "device X")
    assert found == {"NUM_STREAMS": 2, "PERF_COUNT": True}
    assert all(type(name) is str for name in found)
    with pytest.raises(InvalidArgumentError, match="must be a dict of property to value, not list"):
        parse(["NUM_STREAMS"], PROPERTIES, "device X")  # type: ignore[arg-type]


def test_settings_know_what_was_chosen_and_what_is_default() -> None:
    settings = Settings(PROPERTIES, {"NUM_STREAMS": 4})
    assert "NUM_STREAMS" in settings
    assert "PERF_COUNT" not in settings
    assert (settings.value("NUM_STREAMS"), settings.value("PERF_COUNT")) == (4, False)


def test_settings_resolve_each_property_that_can_be_set() -> None:
    resolved = Settings(PROPERTIES, {"NUM_STREAMS": 4}).resolved()
    assert set(resolved) == {name for name, one in PROPERTIES.items() if one.writable}
    assert (resolved["NUM_STREAMS"], resolved["PERF_COUNT"]) == (4, False)


OTHER_VALUES = {"INFERENCE_PRECISION_HINT": Type.bf16, "MODEL_DISTRIBUTION_POLICY": frozenset(["PIPELINE_PARALLEL"])}


@pytest.mark.parametrize("name", [name for name, one in PROPERTIES.items() if one.writable])
def test_a_cache_key_has_the_values_of_keyed_properties_alone(name: str) -> None:
    declaration = PROPERTIES[name]
    others = [OTHER_VALUES[name]] if name in OTHER_VALUES else map(declaration.parse, declaration.values.names or [77])
    other = next(value for value in others if value != declaration.default)
    keys = [Settings(PROPERTIES, chosen).key() for chosen in ({}, {name: declaration.default}, {name: other})]
    assert (keys[0] != keys[1] != keys[2] != keys[0]) == declaration.keyed


def test_what_changes_programs_and_streams_is_keyed() -> None:
    assert {name for name, one in PROPERTIES.items() if one.keyed} == {
        "ENABLE_CPU_PINNING", "ENABLE_CPU_RESERVATION", "ENABLE_HYPER_THREADING", "EXECUTION_MODE_HINT",
        "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "LATENCY_TARGET_MS", "MODEL_DISTRIBUTION_POLICY",
        "NUM_STREAMS", "PERFORMANCE_HINT", "PERFORMANCE_HINT_NUM_REQUESTS", "SCHEDULING_CORE_TYPE", "TUNING_BUDGET_MS",
    }  # fmt: skip


def test_a_device_has_the_properties_of_all_devices_and_its_own() -> None:
    cpu, other = of_device("CPU"), of_device("OTHER")
    assert set(other) < set(cpu)
    assert {"NUM_STREAMS", "FULL_DEVICE_NAME"} <= set(other)
    assert set(cpu) - set(other) == {name for name, one in cpu.items() if one.devices == ("CPU",)}
    assert "NETWORK_NAME" not in cpu, "compiled models have it"


def test_the_table_has_a_row_for_each_property() -> None:
    rows = [line.split(" | ") for line in props.table().splitlines() if line.startswith("| `")]
    assert sorted(row[0].strip("|` ") for row in rows) == sorted(PROPERTIES)
    assert {len(row) for row in rows} == {5}
    assert "| `NUM_STREAMS` | an integer >= 0 and <= 8192" in props.table()
    assert " | by the hint | all | How many inferences run at a time." in props.table()


def test_the_environment_sets_writable_properties() -> None:
    found = from_environment(
        PROPERTIES,
        {
            "CPURUNTIME_NUM_STREAMS": "NUMA",
            "CPURUNTIME_PERFORMANCE_HINT": "THROUGHPUT",
            "CPURUNTIME_PERF_COUNT": "",
            "CPURUNTIME_ISA": "no property",
            "NUM_STREAMS": "7",
        },
    )
    assert found == {"NUM_STREAMS": -2, "PERFORMANCE_HINT": "THROUGHPUT"}


def test_a_bad_environment_value_names_the_variable() -> None:
    with pytest.raises(InvalidArgumentError, match="variable CPURUNTIME_NUM_STREAMS: property NUM_STREAMS: 'lots'"):
        from_environment(PROPERTIES, {"CPURUNTIME_NUM_STREAMS": "lots"})
    with pytest.raises(UnsupportedError, match="variable CPURUNTIME_INFERENCE_PRECISION_HINT"):
        from_environment(PROPERTIES, {"CPURUNTIME_INFERENCE_PRECISION_HINT": "bf16"})


@pytest.mark.parametrize(
    ("variable", "parts"),
    [
        ("NUM_STREAM", ["there is no property NUM_STREAM. Did you mean 'NUM_STREAMS'? After CPURUNTIME_ comes"]),
        ("PERFORMANCE_HNT", ["Did you mean 'PERFORMANCE_HINT'?"]),
        ("num_streams", ["Did you mean 'NUM_STREAMS'?"]),
        ("CACHE_DIRS", ["Did you mean 'CACHE_DIR'?", "or one of CACHE_DIR, DUMP_AFTER, ISA, KERNEL_PATH, LEDGER_DIR."]),
        ("RANGE_FOR_STREEMS", ["no property RANGE_FOR_STREEMS. After"]),
        ("X", ["no property X. After"]),
        ("", ["Environment variable CPURUNTIME_ is not used"]),
        ("RANGE_FOR_STREAMS", [": property RANGE_FOR_STREAMS is read only and was given '3'."]),
        ("PINNED_CPUS", [": property PINNED_CPUS is read only and was given '3'."]),
    ],
)
def test_variables_without_effect_are_refused(variable: str, parts: list[str]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_environment(PROPERTIES, {"HOME": "/", f"CPURUNTIME_{variable}": "3"})
    assert str(caught.value).startswith(f"Environment variable CPURUNTIME_{variable}")
    for part in parts:
        assert part in str(caught.value)


def test_variables_with_an_effect_are_not_refused() -> None:
    names = [*OTHER_VARIABLES, *(name for name, one in PROPERTIES.items() if one.writable)]
    check_environment(PROPERTIES, {f"CPURUNTIME_{name}": "?" for name in names} | {"CPURUNTIMES_X": "3", "CPU": "3"})
    check_environment(PROPERTIES, {"CPURUNTIME_NUM_STREAM": ""})
    assert check_environment(PROPERTIES) is None, "those of this process, which runs the tests"


def test_the_read_only_properties_of_a_device_take_no_variable() -> None:
    with pytest.raises(InvalidArgumentError, match="FULL_DEVICE_NAME: property FULL_DEVICE_NAME is read only"):
        from_environment(PROPERTIES, {"CPURUNTIME_FULL_DEVICE_NAME": "x"})


def test_the_other_variables_are_those_that_the_sources_read() -> None:
    found = set()
    for path in [*(ROOT / "cpuruntime").rglob("*.py"), *(ROOT / "ops").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]:
        nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
        found |= {node.value for node in nodes if isinstance(node.value, str) if _VARIABLE.fullmatch(node.value)}
    assert found == {f"CPURUNTIME_{name}" for name in OTHER_VARIABLES}


def test_properties_are_used_as_in_openvino() -> None:
    assert hints.performance_mode == "PERFORMANCE_HINT"
    assert hints.performance_mode() == "PERFORMANCE_HINT"
    assert hints.performance_mode("LATENCY") == ("PERFORMANCE_HINT", hints.PerformanceMode.LATENCY)
    assert {hints.performance_mode: 1} == {"PERFORMANCE_HINT": 1}
    assert props.num_streams is streams.num
    assert streams.Num.AUTO.to_integer() == -1
    assert str(hints.PerformanceMode.LATENCY) == f"{hints.PerformanceMode.LATENCY}" == "LATENCY"
    assert hints.PerformanceMode.LATENCY == "LATENCY"


def test_properties_survive_copying_and_pickling() -> None:
    config = {hints.performance_mode: hints.PerformanceMode.LATENCY}
    assert copy.deepcopy(config) == config
    again = pickle.loads(pickle.dumps(hints.performance_mode))
    assert (again, again.doc, again.default) == ("PERFORMANCE_HINT", hints.performance_mode.doc, "LATENCY")
    again = pickle.loads(pickle.dumps(props.inference_num_threads))
    assert {**vars(again), "values": None} == {**vars(props.inference_num_threads), "values": None}


def test_a_device_may_differ_from_the_declaration() -> None:
    changed = props.num_streams.replace(default=8)
    assert (changed, changed.default, changed.doc) == ("NUM_STREAMS", 8, props.num_streams.doc)
    assert props.num_streams.default == 1
    assert changed.default_text() == "8"
    assert props.num_streams.replace(doc="Other.").default_text() == "by the hint"
