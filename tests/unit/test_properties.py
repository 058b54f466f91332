"""Properties: declarations, parsing, the environment, OpenVINO's spellings."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from pathlib import Path
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
from cpuruntime.properties.declaration import Group, Integer, Number, declared

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
        ("INFERENCE_PRECISION_HINT", "bf16", Type.bf16),
        ("PERFORMANCE_HINT", props.OVAny("LATENCY"), hints.PerformanceMode.LATENCY),
        ("MODEL_PRIORITY", hints.Priority.DEFAULT, hints.Priority.MEDIUM),
        ("LOG_LEVEL", "log_error", props.log.Level.ERR),
        ("CACHE_DIR", Path("x"), "x"),
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


OTHER_VALUES = {
    **dict.fromkeys(["CACHE_DIR", "TRACE", "DEVICE_ID", "MULTI_DEVICE_PRIORITIES", "WEIGHTS_PATH"], "x"),
    "PRECISION_SAMPLES": "x",
    "DEVICE_PROPERTIES": {"CPU": {}},
    "NODE_AFFINITY": {"n": "CPU"},
    "DEVICES_UTILIZATION_THRESHOLD": {"CPU": 80.0},
    "LOW_POWER_DEVICE": "CPU",
    "PERF_CURVE_TABLE": {"CPU": {0.0: 1.0, 100.0: 9.0}},
    "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE": 0.5,
    **dict.fromkeys(["NUM_REPLICAS", "CPUS_PER_REPLICA", "MAX_ONGOING_REQUESTS"], 2),
    **dict.fromkeys(["MAX_QUEUED_REQUESTS", "REQUESTS_PER_CALL"], 2),
    **dict.fromkeys(["REMOTE_DEVICE", "RAY_ADDRESS", "RAY_NAMESPACE", "RAY_SERVICE"], "x"),
    "RAY_RUNTIME_ENV": {"pip": []},
    "INFERENCE_PRECISION_HINT": Type.bf16,
    "MODEL_DISTRIBUTION_POLICY": frozenset([hints.ModelDistributionPolicy.PIPELINE_PARALLEL]),
}


@pytest.mark.parametrize("name", [name for name, one in PROPERTIES.items() if one.writable])
def test_a_cache_key_has_the_values_of_keyed_properties_alone(name: str) -> None:
    declaration = PROPERTIES[name]
    others = [OTHER_VALUES[name]] if name in OTHER_VALUES else map(declaration.parse, declaration.values.names or [77])
    other = next(value for value in others if value != declaration.default)
    keys = [Settings(PROPERTIES, chosen).key() for chosen in ({}, {name: declaration.default}, {name: other})]
    assert (keys[1] != keys[2] != keys[0]) == declaration.keyed
    assert (keys[0] != keys[1]) == (declaration.keyed and declaration.unset != "")


def test_what_changes_programs_and_streams_is_keyed() -> None:
    assert {name for name, one in PROPERTIES.items() if one.keyed} == {
        "ENABLE_CPU_PINNING", "ENABLE_CPU_RESERVATION", "ENABLE_HYPER_THREADING", "EXECUTION_MODE_HINT",
        "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "LATENCY_TARGET_MS", "MODEL_DISTRIBUTION_POLICY",
        "NUM_STREAMS", "PERFORMANCE_HINT", "PERFORMANCE_HINT_NUM_REQUESTS", "SCHEDULING_CORE_TYPE", "TUNING_BUDGET_MS",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE", "PRECISION_BUDGET", "PRECISION_SAMPLES", "WEIGHTS_PRECISION",
    }  # fmt: skip


def test_a_device_has_the_properties_of_all_devices_and_its_own() -> None:
    cpu, other = of_device("CPU"), of_device("OTHER")
    assert set(other) < set(cpu)
    assert {"NUM_STREAMS", "FULL_DEVICE_NAME"} <= set(other)
    assert set(cpu) - set(other) == {name for name, one in cpu.items() if "CPU" in one.devices}
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
    with pytest.raises(UnsupportedError, match="variable CPURUNTIME_MODEL_DISTRIBUTION_POLICY"):
        from_environment(PROPERTIES, {"CPURUNTIME_MODEL_DISTRIBUTION_POLICY": "PIPELINE_PARALLEL"})


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
        ("ENABLE_MMAP", ["no property ENABLE_MMAP"]),
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
    effective = {name for name, one in PROPERTIES.items() if one.writable and one.group is not Group.ACCEPTED}
    names = [*OTHER_VARIABLES, *effective]
    check_environment(PROPERTIES, {f"CPURUNTIME_{name}": "?" for name in names} | {"CPURUNTIMES_X": "3", "CPU": "3"})
    check_environment(PROPERTIES, {"CPURUNTIME_NUM_STREAM": ""})
    assert from_environment(PROPERTIES, {"CPURUNTIME_CACHE_DIR": "x"}) == {}
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
    assert str(hints.PerformanceMode.LATENCY) == f"{hints.PerformanceMode.LATENCY}" == "PerformanceMode.LATENCY"
    assert repr(hints.PerformanceMode.LATENCY) == "<PerformanceMode.LATENCY: 1>"
    assert hints.PerformanceMode.LATENCY == "LATENCY"
    assert hints.Priority.DEFAULT is hints.Priority.MEDIUM
    assert streams.Num() == streams.Num.AUTO
    numbers = {
        hints.PerformanceMode: [1, 2, 3], hints.ExecutionMode: [1, 2], hints.Priority: [0, 1, 2],
        hints.SchedulingCoreType: [0, 1, 2], hints.ModelDistributionPolicy: [0, 1],
        props.log.Level: [-1, 0, 1, 2, 3, 4],
        props.CacheMode: [0, 1], props.WorkloadType: [0, 1], props.device.Type: [0, 1],
        props.intel_auto.SchedulePolicy: [0, 1, 2], props.intel_cpu.TbbPartitioner: [1, 2],
    }  # fmt: skip
    for kind, expected in numbers.items():
        assert [int(member) for member in kind] == expected
        assert pickle.loads(pickle.dumps(list(kind))) == list(kind)
    entries = getattr(hints.Priority, "__entries")
    assert list(entries) == ["LOW", "MEDIUM", "HIGH", "DEFAULT"]
    assert entries["DEFAULT"][0] is hints.Priority.MEDIUM
    assert props.intel_cpu.sparse_weights_decompression_rate(2.0)[1].value == 2.0


@pytest.mark.parametrize(
    ("call", "name", "value"),
    [
        (lambda: props.enable_profiling(1), "PERF_COUNT", True),
        (lambda: props.inference_num_threads(-8), "INFERENCE_NUM_THREADS", -8),
        (lambda: props.num_streams(streams.Num(5)), "NUM_STREAMS", 5),
        (lambda: hints.inference_precision(Type.f32), "INFERENCE_PRECISION_HINT", Type.f32),
        (
            lambda: hints.model_distribution_policy({hints.ModelDistributionPolicy.PIPELINE_PARALLEL}),
            "MODEL_DISTRIBUTION_POLICY",
            {hints.ModelDistributionPolicy.PIPELINE_PARALLEL},
        ),
        (lambda: props.cache_mode(props.CacheMode.OPTIMIZE_SPEED), "CACHE_MODE", props.CacheMode.OPTIMIZE_SPEED),
        (lambda: props.device.priorities("CPU", "GPU"), "MULTI_DEVICE_PRIORITIES", "CPU,GPU"),
        (
            lambda: props.device.properties({"CPU": {props.enable_profiling: True}}),
            "DEVICE_PROPERTIES",
            {"CPU": {"PERF_COUNT": True}},
        ),
        (lambda: props.log.level(props.log.Level.ERR), "LOG_LEVEL", props.log.Level.ERR),
        (lambda: props.intel_cpu.denormals_optimization(True), "CPU_DENORMALS_OPTIMIZATION", True),
        (lambda: props.intel_auto.device_bind_buffer(1), "DEVICE_BIND_BUFFER", True),
        (lambda: props.intel_gpu.enable_loop_unrolling(False), "GPU_ENABLE_LOOP_UNROLLING", False),
    ],
)
def test_calling_a_property_makes_a_pair(call: Any, name: str, value: Any) -> None:
    pair = call()
    assert pair == (name, value)
    assert isinstance(pair[1], props.OVAny)
    assert pair[1].value == value
    assert type(pair[1].value) is type(value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: props.available_devices(1),
        lambda: props.inference_num_threads("many"),
        lambda: props.inference_num_threads(1.5),
        lambda: hints.performance_mode(1),
        lambda: props.enable_profiling("perhaps"),
        lambda: props.enable_profiling(True, False),
        lambda: parse([], PROPERTIES, "device X"),  # type: ignore[arg-type]
        lambda: declared(7, PROPERTIES, "device X"),
    ],
)
def test_wrong_kinds_are_type_errors(call: Any) -> None:
    with pytest.raises(TypeError) as caught:
        call()
    assert isinstance(caught.value, InvalidArgumentError)


def test_a_wrapped_value_acts_as_the_value() -> None:
    wrapped = props.OVAny([1, 2])
    assert (wrapped[0], len(wrapped), wrapped.value, wrapped.get(), wrapped) == (1, 2, [1, 2], [1, 2], [1, 2])
    assert (wrapped.aslist(), wrapped.aslist(str), props.OVAny("5").astype(int)) == ([1, 2], ["1", "2"], 5)
    assert props.OVAny(props.OVAny(5)) == props.OVAny(5)
    assert hash(props.OVAny(5)) == hash(5)
    wrapped.set(7)
    assert wrapped.value == 7


def test_settings_of_several_devices_in_one_configuration() -> None:
    by_device = {"CPU": {"NUM_STREAMS": 2, "PERF_COUNT": True}, "GPU": {"X": 1}}
    config = {"DEVICE_PROPERTIES": by_device, "PERF_COUNT": False}
    assert props.device.own_config(config, "CPU") == {"NUM_STREAMS": 2, "PERF_COUNT": False}
    assert props.device.own_config(config, "OTHER") == {"PERF_COUNT": False}
    pair = dict([props.device.properties({"CPU": {"NUM_STREAMS": 2}})])
    assert props.device.own_config(pair, "CPU") == {"NUM_STREAMS": 2}
    text = {"DEVICE_PROPERTIES": '{"CPU": {"NUM_STREAMS": 2}}'}
    assert props.device.own_config(text, "CPU") == {"NUM_STREAMS": 2}


@pytest.mark.parametrize("value", ["{CPU:{NUM_STREAMS:2}}", 5, [], None, {"CPU": 5}, {"CPU": "NUM_STREAMS"}])
def test_what_is_no_properties_by_device_says_so(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"DEVICE_PROPERTIES: .* is not a dict of device"):
        props.device.own_config({"DEVICE_PROPERTIES": value}, "CPU")


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
