"""Hints: what the user wants, from which a device works out how. `import cpuruntime.properties.hint as hints`."""

from __future__ import annotations

from cpuruntime.properties.declaration import Boolean, Choice, ElementType, Integer, Property, Word


class PerformanceMode(Word):
    """What to be fast at."""

    LATENCY = "LATENCY"
    THROUGHPUT = "THROUGHPUT"
    CUMULATIVE_THROUGHPUT = "CUMULATIVE_THROUGHPUT"


class ExecutionMode(Word):
    """Whether speed may cost accuracy."""

    PERFORMANCE = "PERFORMANCE"
    ACCURACY = "ACCURACY"


class Priority(Word):
    """What goes first."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


performance_mode = Property(
    "PERFORMANCE_HINT",
    Choice(PerformanceMode),
    PerformanceMode.LATENCY,
    doc="Whether one inference should be quick (LATENCY) or many should be (THROUGHPUT, CUMULATIVE_THROUGHPUT).",
)
num_requests = Property(
    "PERFORMANCE_HINT_NUM_REQUESTS",
    Integer(0),
    0,
    doc="How many infer requests the application runs at most at a time; limits the streams. 0: not known.",
)
inference_precision = Property(
    "INFERENCE_PRECISION_HINT",
    ElementType(known=("f32", "f16", "bf16", "dynamic"), supported=("f32",)),
    "f32",
    doc="The element type to compute in.",
)
execution_mode = Property(
    "EXECUTION_MODE_HINT",
    Choice(ExecutionMode),
    ExecutionMode.PERFORMANCE,
    doc="Whether speed may cost accuracy (PERFORMANCE) or not (ACCURACY).",
)
model_priority = Property(
    "MODEL_PRIORITY",
    Choice(Priority),
    Priority.MEDIUM,
    doc="Which of the models that run in a process at a time go first where they share processors.",
)
enable_cpu_pinning = Property(
    "ENABLE_CPU_PINNING",
    Boolean(),
    True,
    doc="Whether each inference thread is bound to one processor.",
)
