"""Names of properties of OpenVINO's NPU device, which is not here: devices refuse them."""

from __future__ import annotations

from cpuruntime.properties.declaration import Boolean, Choice, Integer, Property, Text, elsewhere
from cpuruntime.properties.words import Word


class CompilerType(Word):
    """Which compiler an NPU's models are made with."""

    PLUGIN = "PLUGIN", 0
    DRIVER = "DRIVER", 1
    PREFER_PLUGIN = "PREFER_PLUGIN", 2


compiler_version: Property = elsewhere("NPU_COMPILER_VERSION")
device_alloc_mem_size: Property = elsewhere("NPU_DEVICE_ALLOC_MEM_SIZE")
device_total_mem_size: Property = elsewhere("NPU_DEVICE_TOTAL_MEM_SIZE")
driver_version: Property = elsewhere("NPU_DRIVER_VERSION")
max_tiles: Property = elsewhere("NPU_MAX_TILES")
bypass_umd_caching: Property = elsewhere("NPU_BYPASS_UMD_CACHING", Boolean())
compilation_mode_params: Property = elsewhere("NPU_COMPILATION_MODE_PARAMS", Text())
compiler_dynamic_quantization: Property = elsewhere("NPU_COMPILER_DYNAMIC_QUANTIZATION", Boolean())
compiler_type: Property = elsewhere("NPU_COMPILER_TYPE", Choice(CompilerType))
defer_weights_load: Property = elsewhere("NPU_DEFER_WEIGHTS_LOAD", Boolean())
disable_idle_memory_prunning: Property = elsewhere("NPU_DISABLE_IDLE_MEMORY_PRUNING", Boolean())
enable_strides_for: Property = elsewhere("NPU_ENABLE_STRIDES_FOR", Text())
platform: Property = elsewhere("NPU_PLATFORM", Text())
qdq_optimization: Property = elsewhere("NPU_QDQ_OPTIMIZATION", Boolean())
qdq_optimization_aggressive: Property = elsewhere("NPU_QDQ_OPTIMIZATION_AGGRESSIVE", Boolean())
run_inferences_sequentially: Property = elsewhere("NPU_RUN_INFERENCES_SEQUENTIALLY", Boolean())
tiles: Property = elsewhere("NPU_TILES", Integer(0))
turbo: Property = elsewhere("NPU_TURBO", Boolean())
