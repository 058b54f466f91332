"""Settings of OpenVINO's CPU device that have no counterpart here."""

from __future__ import annotations

from cpuruntime.properties.declaration import Boolean, Choice, Number, accepted
from cpuruntime.properties.words import Word


class TbbPartitioner(Word):
    """How a threading library that is not used here divides loops."""

    STATIC = "STATIC", 1
    AUTO = "AUTO", 2


denormals_optimization = accepted(
    "CPU_DENORMALS_OPTIMIZATION", Boolean(), False,
    "subnormal numbers are computed as such",
)  # fmt: skip
sparse_weights_decompression_rate = accepted(
    "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE", Number(0, 1.1), 1.0,
    "weights with many zeros are computed with as others",
)  # fmt: skip
tensor_parallel = accepted(
    "ENABLE_TENSOR_PARALLEL", Boolean(), False,
    "MODEL_DISTRIBUTION_POLICY says whether an inference may use several sockets",
)  # fmt: skip
tbb_partitioner = accepted(
    "TBB_PARTITIONER", Choice(TbbPartitioner), TbbPartitioner.STATIC,
    "kernels divide their work themselves",
)  # fmt: skip
