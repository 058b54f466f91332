"""Every property, declared once.

Each is a string equal to its name, so `{properties.num_streams: 2}` and `{"NUM_STREAMS": 2}` are the same dict, and
calling one makes the pair that `set_property` takes. A writable property may also come from the environment, as
CPURUNTIME_ and its name: `CPURUNTIME_NUM_STREAMS=2`. Other variables that begin so are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpuruntime.errors import InvalidArgumentError, WrongTypeError, nearest
from cpuruntime.graph import Type
from cpuruntime.properties import device, hint, intel_auto, intel_cpu, intel_gpu, log, ray, streams
from cpuruntime.properties.any_value import OVAny
from cpuruntime.properties.declaration import (
    Boolean,
    Choice,
    ElementType,
    Group,
    Integer,
    Property,
    ShapeSets,
    Text,
    accepted,
    declared,
    elsewhere,
    fact,
)
from cpuruntime.properties.intel_gpu import hint as gpu_hint
from cpuruntime.properties.words import Word
from cpuruntime.store import trusted_environment

__all__ = [
    "PROPERTIES",
    "CacheMode",
    "CompatibilityCheck",
    "OVAny",
    "Property",
    "Settings",
    "WorkloadType",
    "declared",
    "device",
    "hint",
    "intel_auto",
    "intel_cpu",
    "intel_gpu",
    "log",
    "ray",
    "streams",
]


class CacheMode(Word):
    """What a cache of models is to save."""

    OPTIMIZE_SIZE = "OPTIMIZE_SIZE", 0
    OPTIMIZE_SPEED = "OPTIMIZE_SPEED", 1


class CompileMode(Word):
    """What a model does while kernels that it needs are not compiled yet."""

    FAST_START = "FAST_START", 0
    OPTIMIZED = "OPTIMIZED", 1


class WorkloadType(Word):
    """How urgent a model's inferences are."""

    DEFAULT = "DEFAULT", 0
    EFFICIENT = "EFFICIENT", 1


class CompatibilityCheck(Word):
    """Whether a stored model fits a device."""

    NOT_APPLICABLE = "NOT_APPLICABLE", 0
    SUPPORTED = "SUPPORTED", 1
    UNSUPPORTED = "UNSUPPORTED", 2


ENVIRONMENT_PREFIX = "CPURUNTIME_"
OTHER_VARIABLES = ("CACHE_DIR", "DUMP_AFTER", "ISA", "KERNEL_PATH", "LEDGER_DIR")
"""What may follow ENVIRONMENT_PREFIX beside properties; tests compare it with the sources and the documentation."""

num_streams = streams.num
inference_num_threads = Property(
    "INFERENCE_NUM_THREADS", Integer(0, maximum=streams.MOST), 0, group=Group.STREAMS, devices=("CPU",), keyed=True,
    doc="How many threads inference may use in all streams together. 0: all.",
)  # fmt: skip
enable_profiling = Property(
    "PERF_COUNT", Boolean(), False, group=Group.COMPILING,
    doc="Whether each step of an inference is timed for `profiling_info`.",
)  # fmt: skip
trace = Property(
    "TRACE", Text(), "", group=Group.COMPILING,
    doc="A file for a timeline, which Perfetto shows: requests, streams, steps, callbacks, phases of compiling. "
    "Written when the model's `with` statement ends and when the process does. Empty: none.",
)  # fmt: skip
tuning_budget = Property(
    "TUNING_BUDGET_MS", Integer(0), 2000, group=Group.COMPILING, devices=("CPU",), keyed=True,
    doc="How long measuring may take in one compilation where estimates of kernels are close, in milliseconds. 0: "
    "estimates decide, and nothing measured earlier is used. With COMPILE_MODE FAST_START a model that finds all its "
    "kernels measures in the background, up to five times as long.",
)  # fmt: skip
compile_mode = Property(
    "COMPILE_MODE", Choice(CompileMode), CompileMode.FAST_START, group=Group.COMPILING, devices=("CPU",),
    doc="What compiling a model does where kernels are missing: FAST_START returns at once, NumPy computes inferences, "
    "and the kernels, compiled in the background, take over between two of them; OPTIMIZED waits for the kernels. "
    "Candidates that were never measured FAST_START measures in the background where no kernel is missing. "
    "With STREAMS_CALIBRATION_MS or LATENCY_TARGET_MS, or for ports that are no tensors, it always waits.",
)  # fmt: skip
program_cache = Property(
    "PROGRAM_CACHE_MB", Integer(0), 16, group=Group.COMPILING, devices=("CPU",),
    doc="How many MiB the plans of a model of dynamic shapes may take for the input shapes seen last. They are made "
    "again, in well below a millisecond, for shapes that were evicted.",
)  # fmt: skip
warmup_shapes = Property(
    "WARMUP_SHAPES", ShapeSets(), (), group=Group.COMPILING, devices=("CPU",),
    unset="guesses within the bounds: a batch of 1 and of 8, and 64 for other open extents, or 1,024 or 16,384 for "
    "models that leave nothing of shorter ones; for an image of open size "
    "1 and 2 of 64x96 and of 320x480 pixels; for a model that continues its own outputs a text of 64 tokens, and one "
    "token behind 63",
    doc="For which shapes of its inputs a model of dynamic shapes is planned when it is compiled, so that its kernels "
    "and weights are ready for the first inference, also for most other shapes. NONE: for none.",
)  # fmt: skip
enable_mmap = accepted(
    "ENABLE_MMAP", Boolean(), True,
    "how weights in files of their own are read is decided here",
)  # fmt: skip
cache_dir = Property(
    "CACHE_DIR", Text(), "", group=Group.COMPILING,
    doc="A folder in which compiled models are stored, and from which later processes load them. Empty: none. Compiled "
    "kernels are always stored, in the folder that the variable CPURUNTIME_CACHE_DIR names.",
)  # fmt: skip
cache_mode = Property(
    "CACHE_MODE", Choice(CacheMode), CacheMode.OPTIMIZE_SPEED, group=Group.COMPILING,
    doc="What CACHE_DIR has of a model of static shapes that is compiled from one file: with OPTIMIZE_SPEED its packed "
    "weights, which later processes map and share; with OPTIMIZE_SIZE none that can be packed again from the file.",
)  # fmt: skip
enable_weightless = accepted(
    "ENABLE_WEIGHTLESS", Boolean(), False,
    "CACHE_MODE says whether stored models have their weights",
)  # fmt: skip
weights_path = accepted(
    "WEIGHTS_PATH", Text(), "",
    "an ONNX model names the files of its weights",
)  # fmt: skip
force_tbb_terminate = accepted(
    "FORCE_TBB_TERMINATE", Boolean(), False,
    "threads end with the models that they belong to",
)  # fmt: skip
auto_batch_timeout = Property(
    "AUTO_BATCH_TIMEOUT", Integer(0), 1000, group=Group.COMPOSED,
    doc="How many milliseconds after its arrival device BATCH lets a request wait for others to run with, at most; "
    "usually it waits for microseconds or not at all. 0: not at all. Other devices ignore it.",
)  # fmt: skip
workload_type = accepted(
    "WORKLOAD_TYPE", Choice(WorkloadType), WorkloadType.DEFAULT,
    "MODEL_PRIORITY says what waits for what",
)  # fmt: skip
key_cache_precision, value_cache_precision = (
    accepted(f"{what}_CACHE_PRECISION", ElementType(*hint.CACHED), Type.f32, "keys and values have the model's types")
    for what in ("KEY", "VALUE")
)
key_cache_group_size, value_cache_group_size = (
    accepted(f"{what}_CACHE_GROUP_SIZE", Integer(0), 0, "keys and values are not packed") for what in ("KEY", "VALUE")
)
compilation_num_threads = elsewhere("COMPILATION_NUM_THREADS", Integer(0))
compatibility_check = elsewhere("COMPATIBILITY_CHECK")
runtime_requirements = elsewhere("RUNTIME_REQUIREMENTS")
max_batch_size = fact(
    "MAX_BATCH_SIZE", "int", Group.MODEL, "How many samples an inference may have by the device's memory.", ("GPU",)
)
optimal_batch_size = fact(
    "OPTIMAL_BATCH_SIZE", "int", Group.MODEL, "How many inferences in one batch the device runs fastest.", ("GPU",)
)
cache_encryption_callbacks = elsewhere("CACHE_ENCRYPTION_CALLBACKS")
loaded_from_cache = fact(
    "LOADED_FROM_CACHE", "bool", Group.MODEL, "Whether the model was stored by an earlier compilation and loaded."
)
supported_properties = fact(
    "SUPPORTED_PROPERTIES", "dict of str to str", Group.DEVICE, "Each property's name with RO, RW or WO."
)
available_devices = fact("AVAILABLE_DEVICES", "list of str", Group.DEVICE, "The identifiers of the device's instances.")
execution_devices = fact("EXECUTION_DEVICES", "list of str", Group.DEVICE, "The devices that inference runs on.")
optimized = fact("OPTIMIZED", "bool", Group.MODEL, "Whether inferences run on the kernels that are "
    "chosen for good: compiled, and measured where that was to be done.")
model_name = fact("NETWORK_NAME", "str", Group.MODEL, "The compiled model's name.")
optimal_number_of_infer_requests = fact(
    "OPTIMAL_NUMBER_OF_INFER_REQUESTS", "int", Group.DEVICE,
    "How many infer requests in flight keep a compiled model busy; of a device 1 unless NUM_STREAMS is set.",
)  # fmt: skip
range_for_streams = fact(
    "RANGE_FOR_STREAMS", "(int, int)", Group.DEVICE, "The least and the most streams that make sense."
)
range_for_async_infer_requests = fact(
    "RANGE_FOR_ASYNC_INFER_REQUESTS", "(int, int, int)", Group.DEVICE,
    "The least and the most infer requests in flight that make sense, and the step between.",
)  # fmt: skip

PROPERTIES: dict[str, Property] = {
    str(declaration): declaration
    for module in (
        globals(), *map(vars, (hint, device, streams, log, intel_cpu, intel_auto, intel_gpu, gpu_hint, ray))
    )
    for declaration in module.values()
    if isinstance(declaration, Property) and declaration.group is not Group.ELSEWHERE
}


def of_device(name: str) -> dict[str, Property]:
    """The properties of device `name`: those of every device, and those that are declared for it."""
    return {
        str(one): one
        for one in PROPERTIES.values()
        if one.group != Group.MODEL and (not one.devices or name in one.devices)
    }


def table() -> str:
    """The properties as Markdown for the documentation, a table for each group."""
    lines = []
    for group in Group:
        if group is Group.ELSEWHERE:
            continue
        lines += [f"## {group.value}", "", "| property | values | default | devices | |", "|---|---|---|---|---|"]
        for one in sorted(property for property in PROPERTIES.values() if property.group == group):
            default = one.default_text() if one.writable else "read only"
            cells = f"`{one}`", one.values.rule, default, ", ".join(one.devices) or "all", one.doc
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


class Settings(dict[str, Any]):
    """Parsed values of properties that were set, by name; `known` are all properties.

    `name in settings` says whether a value was set; `settings.value(name)` is that value or the default.
    """

    def __init__(self, known: Mapping[str, Property], values: Mapping[str, Any] | None = None) -> None:
        super().__init__(values or {})
        self.known = known

    def value(self, name: str) -> Any:
        """The value of `name`: the one that was set, else its default."""
        return self[name] if name in self else self.known[name].default

    def resolved(self) -> dict[str, Any]:
        """The value of each property that can be set, by name."""
        return {name: self.value(name) for name, declaration in self.known.items() if declaration.writable}

    @property
    def times_steps(self) -> bool:
        """Whether each step of an inference is timed: for `profiling_info` or a timeline."""
        return self.value("PERF_COUNT") or self.value("TRACE") != ""

    def key(self) -> dict[str, str]:
        """The part of cache keys: the text of each value of a `keyed` property that differs from what holds unset."""
        keyed = (one for name, one in self.known.items() if one.keyed and name in self)
        return {str(one): one.values.text(self[one]) for one in keyed if one.unset or self[one] != one.default}


def parse(config: Mapping[Any, Any], known: Mapping[str, Property], owner: str, unsets: bool = False) -> Settings:
    """The parsed form of a user's configuration, values by property or name.

    `known` are all properties, `owner` names their owner in error messages: "device CPU". With `unsets` None is a legal
    value of those that can be set, and stays None.

    Raises:
        InvalidArgumentError: an unknown or read-only property, or a value that breaks its rule.
        UnsupportedError: a legal value that is not implemented.
    """
    if not isinstance(config, Mapping):
        raise WrongTypeError(
            f"The configuration of {owner} must be a dict of property to value, not {type(config).__name__}."
        )
    settings = Settings(known)
    for key, value in config.items():
        declaration = declared(key, known, owner)
        takes_back = unsets and value is None and declaration.writable
        settings[str(declaration)] = None if takes_back else declaration.parse(value)
    return settings


def from_environment(known: Mapping[str, Property], environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of environment variables; an empty variable sets nothing. Errors of `parse` name the variable."""
    settings = Settings(known)
    for name, value in _variables(environment).items():
        if name in known and known[name].group is not Group.ACCEPTED and name not in OTHER_VARIABLES:
            settings[name] = known[name].parse(value, _variable(name))
    return settings


def unknown_variables(known: Mapping[str, Property], environment: Mapping[str, str] | None = None) -> list[str]:
    """What follows ENVIRONMENT_PREFIX in variables that are neither of `known`, with an effect, nor OTHER_VARIABLES."""
    effective = {name for name, one in known.items() if one.group is not Group.ACCEPTED}
    return [name for name in _variables(environment) if name not in effective and name not in OTHER_VARIABLES]


def check_environment(known: Mapping[str, Property], environment: Mapping[str, str] | None = None) -> None:
    """InvalidArgumentError for a variable of no property of `known`, those of all devices, or of a read-only one."""
    for name in unknown_variables(known, environment):
        settings = (one for one in known.values() if one.writable and one.group is not Group.ACCEPTED)
        hint = nearest(name, [*OTHER_VARIABLES, *settings])
        raise InvalidArgumentError(
            f"{_variable(name)} is not used: there is no property {name}.{hint} After {ENVIRONMENT_PREFIX} comes a "
            f"property that can be set, as `cpuruntime properties` lists, or one of {', '.join(OTHER_VARIABLES)}."
        )
    read_only = {name: declaration for name, declaration in known.items() if not declaration.writable}
    from_environment(read_only, environment)


def _variables(environment: Mapping[str, str] | None) -> dict[str, str]:
    """The values of the variables that begin with ENVIRONMENT_PREFIX and are not empty, by the rest of their name."""
    environment = trusted_environment() if environment is None else environment
    return {
        variable.removeprefix(ENVIRONMENT_PREFIX): value
        for variable, value in environment.items()
        if value and variable.startswith(ENVIRONMENT_PREFIX)
    }


def _variable(name: str) -> str:
    return f"Environment variable {ENVIRONMENT_PREFIX}{name}"
