"""Rewrites of the graph: what every backend would otherwise have to do. One file a rewrite, one list in `pipeline`."""

from cpuruntime.passes.evaluation import evaluate
from cpuruntime.passes.pipeline import PASSES, Pass, run

__all__ = ["PASSES", "Pass", "evaluate", "run"]
