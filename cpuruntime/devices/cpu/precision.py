"""Which precision INFERENCE_PRECISION_HINT comes to on this processor."""

from __future__ import annotations

from cpuruntime.compiler import isa
from cpuruntime.graph import Type
from cpuruntime.properties import Settings


def inference_precision(settings: Settings) -> Type:
    """What INFERENCE_PRECISION_HINT comes to: f32 with EXECUTION_MODE_HINT=ACCURACY, or without instructions."""
    asked = settings.value("INFERENCE_PRECISION_HINT")
    if asked is Type.dynamic:
        asked = Type.f16 if isa.converts_halves() and not isa.bf16_products() else Type.bf16
    return Type.f32 if is_accurate(settings) or (asked is Type.f16 and not isa.converts_halves()) else asked


def precision_sentences(settings: Settings) -> list[str]:
    """A sentence for `explain` where a precision is asked for."""
    asked, found = settings.value("INFERENCE_PRECISION_HINT"), inference_precision(settings).get_type_name()
    if asked is Type.f32:
        return []
    hint = f"INFERENCE_PRECISION_HINT is {asked.get_type_name()}"
    if found == "f32":
        why = "EXECUTION_MODE_HINT is ACCURACY" if is_accurate(settings) else "this processor does not convert f16"
        return [f"{hint} and has no effect: {why}"]
    if found == "bf16" and isa.bf16_products():
        return [f"{hint}: operands of products are rounded to bf16 where that is faster, and sums are f32"]
    why = ": this processor does not multiply bf16" if found == "bf16" else ""
    return [f"{hint}: weights of matrix products lie in memory as {found}, and everything is computed in f32{why}"]


def is_accurate(settings: Settings) -> bool:
    """Whether speed may not cost accuracy."""
    return bool(settings.value("EXECUTION_MODE_HINT") == "ACCURACY")
