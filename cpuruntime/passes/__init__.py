"""Rewrites of the graph: what every backend would otherwise have to do. One file a rewrite, one list in `pipeline`."""

from cpuruntime.passes.control_flow.resolve import resolve
from cpuruntime.passes.evaluation import can_evaluate, evaluate
from cpuruntime.passes.fuse.elementwise_chains import alone
from cpuruntime.passes.fuse.expressions import Earlier, spell
from cpuruntime.passes.operators import is_internal
from cpuruntime.passes.pipeline import CANONICAL, FUSE, PASSES, QUANTISE, SIMPLIFY, Pass, Pipeline, compress, run
from cpuruntime.passes.quantise.stored_weights import WeightStorage, errors_of, products_of

__all__ = [
    "CANONICAL", "FUSE", "PASSES", "QUANTISE", "SIMPLIFY", "Earlier", "Pass", "Pipeline", "WeightStorage", "alone",
    "can_evaluate", "compress", "errors_of", "evaluate", "is_internal", "products_of", "resolve", "run", "spell",
]  # fmt: skip
