"""Hints: the user's goals, which a device turns into settings. `import cpuruntime.properties.hint as hints`."""

from __future__ import annotations

from cpuruntime.graph import Type
from cpuruntime.properties.declaration import (
    Anything,
    Boolean,
    Choice,
    Choices,
    ElementType,
    Group,
    Integer,
    Number,
    Property,
    Text,
    accepted,
    elsewhere,
)
from cpuruntime.properties.words import Word


class PerformanceMode(Word):
    """What to be fast at."""

    LATENCY = "LATENCY", 1
    THROUGHPUT = "THROUGHPUT", 2
    CUMULATIVE_THROUGHPUT = "CUMULATIVE_THROUGHPUT", 3


class ExecutionMode(Word):
    """Whether speed may cost accuracy."""

    PERFORMANCE = "PERFORMANCE", 1
    ACCURACY = "ACCURACY", 2


class Priority(Word):
    """What goes first."""

    LOW = "LOW", 0
    MEDIUM = "MEDIUM", 1
    HIGH = "HIGH", 2
    DEFAULT = "MEDIUM", 1


class SchedulingCoreType(Word):
    """Which cores of a processor that has fast (P) and slow (E) ones inference may use."""

    ANY_CORE = "ANY_CORE", 0
    PCORE_ONLY = "PCORE_ONLY", 1
    ECORE_ONLY = "ECORE_ONLY", 2


class ModelDistributionPolicy(Word):
    """How one inference may be spread over several sockets or devices."""

    TENSOR_PARALLEL = "TENSOR_PARALLEL", 0
    PIPELINE_PARALLEL = "PIPELINE_PARALLEL", 1


CACHED = Type.f32, Type.f16, Type.bf16, Type.u8, Type.i8, Type.u4, Type.dynamic

performance_mode = Property(
    "PERFORMANCE_HINT", Choice(PerformanceMode), PerformanceMode.LATENCY, group=Group.HINTS, keyed=True,
    doc="Whether one inference should be quick (LATENCY) or many should be (THROUGHPUT, CUMULATIVE_THROUGHPUT).",
)  # fmt: skip
num_requests = Property(
    "PERFORMANCE_HINT_NUM_REQUESTS", Integer(0), 0, group=Group.HINTS, keyed=True,
    doc="How many infer requests the application runs at most at a time; limits the streams. 0: not known.",
)  # fmt: skip
inference_precision = Property(
    "INFERENCE_PRECISION_HINT",
    ElementType(Type.f32, Type.f16, Type.bf16, Type.dynamic), Type.f32, group=Group.HINTS, keyed=True,
    doc="The least precise element type. On a CPU that multiplies bf16, operands of products are rounded to it; else "
    "f16, bf16 or what `dynamic` takes of them is how weights of matrix products lie in memory, and everything is "
    "computed in f32. On a GPU f16 is how values lie in memory, which its sums do not, and the default where the "
    "driver has it.",
)  # fmt: skip
execution_mode = Property(
    "EXECUTION_MODE_HINT", Choice(ExecutionMode), ExecutionMode.PERFORMANCE,
    group=Group.HINTS, devices=("CPU", "GPU"), keyed=True,
    doc="Whether speed may cost accuracy (PERFORMANCE) or not (ACCURACY).",
)  # fmt: skip
model_priority = Property(
    "MODEL_PRIORITY", Choice(Priority), Priority.MEDIUM, group=Group.HINTS, devices=("CPU",),
    doc="Which of the models that run in a process at a time go first where they share processors.",
)  # fmt: skip
enable_cpu_pinning = Property(
    "ENABLE_CPU_PINNING", Boolean(), True, group=Group.STREAMS, devices=("CPU",), keyed=True,
    doc="Whether each inference thread is bound to one processor.",
    unset="YES except for one stream on P and E cores",
)  # fmt: skip
scheduling_core_type = Property(
    "SCHEDULING_CORE_TYPE", Choice(SchedulingCoreType), SchedulingCoreType.ANY_CORE,
    group=Group.STREAMS, devices=("CPU",), keyed=True,
    doc="Which cores inference may use where there are fast (P) and slow (E) ones.",
)  # fmt: skip
enable_hyper_threading = Property(
    "ENABLE_HYPER_THREADING", Boolean(), True, group=Group.STREAMS, devices=("CPU",), keyed=True,
    doc="Whether inference may use more than one thread of a core; by default for throughput on one NUMA node only.",
    unset="by the hint",
)  # fmt: skip
model_distribution_policy = Property(
    "MODEL_DISTRIBUTION_POLICY",
    Choices(ModelDistributionPolicy, supported=(ModelDistributionPolicy.TENSOR_PARALLEL,)),
    frozenset(), group=Group.STREAMS, devices=("CPU",), keyed=True,
    doc="TENSOR_PARALLEL: for latency one inference may use up to 32 cores of each socket rather than one socket.",
)  # fmt: skip
enable_cpu_reservation = Property(
    "ENABLE_CPU_RESERVATION", Boolean(), False, group=Group.STREAMS, devices=("CPU",), keyed=True,
    doc="Whether the model keeps the processors of its threads to itself: no other model of the user gets them.",
)  # fmt: skip
allow_auto_batching = Property(
    "ALLOW_AUTO_BATCHING", Boolean(), True, group=Group.COMPOSED,
    doc="Whether device BATCH joins requests of a device that asks for batches of a model, where PERFORMANCE_HINT is "
    "THROUGHPUT. CPU does not ask; BATCH:CPU measures.",
)  # fmt: skip
weights_precision = Property(
    "WEIGHTS_PRECISION", ElementType(Type.dynamic, Type.i8, Type.u4), Type.dynamic,
    group=Group.HINTS, devices=("CPU",), keyed=True,
    doc="How float32 weights of matrix products lie in memory: dynamic is as the model has them, i8 and u4 are "
    "integers in groups with a scale each. `explain()` shows the error.",
)  # fmt: skip
precision_budget = Property(
    "PRECISION_BUDGET", Number(0), 0.0, group=Group.HINTS, devices=("CPU",), keyed=True,
    doc="How far outputs may be from those in float32, as a share of them (root mean square), on PRECISION_SAMPLES. "
    "Compiling tries weights of products in 16 and 8 bits, and convolutions in bf16 on processors that multiply it, "
    "and takes what is faster here and within the budget. 0: nothing is tried.",
)  # fmt: skip
precision_samples = Property(
    "PRECISION_SAMPLES", Text(), "", group=Group.HINTS, devices=("CPU",), keyed=True,
    doc="An npz file with an array for each input, for PRECISION_BUDGET.",
)  # fmt: skip
dynamic_quantization_group_size = Property(
    "DYNAMIC_QUANTIZATION_GROUP_SIZE", Integer(0), 0, group=Group.HINTS, devices=("CPU",), keyed=True,
    doc="How many weights share a scale with WEIGHTS_PRECISION, at most 256 and a multiple of 16. Products of few rows "
    "with integer weights take the rows as 16-bit integers in groups as large; 0, when it is set: as float32.",
    unset="64 for i8, 32 for u4",
)  # fmt: skip
kv_cache_precision = accepted(
    "KV_CACHE_PRECISION", ElementType(*CACHED), Type.f32,
    "keys and values of the tokens before are inputs and outputs of a model, of the types that it gives them",
)  # fmt: skip
activations_scale_factor = elsewhere("ACTIVATIONS_SCALE_FACTOR", Anything("float"))
compiled_blob = elsewhere("COMPILED_BLOB", Anything("Tensor"))
model = elsewhere("MODEL_PTR", Anything("Model"))
latency_target_ms = Property(
    "LATENCY_TARGET_MS", Number(0), 0.0, group=Group.HINTS, devices=("CPU",), keyed=True,
    doc="Milliseconds within which an inference is to be over, waiting included; others are refused. 0: no target.",
)  # fmt: skip
latency_percentile = Property(
    "LATENCY_PERCENTILE", Number(50, 100), 99.0, group=Group.HINTS, devices=("CPU",),
    doc="The percentage of inferences, of those not refused, that are to be within LATENCY_TARGET_MS.",
)  # fmt: skip
