"""The process that plans models for this processor: `python -m cpuruntime.cli.plan_worker KERNELS FILE MODEL ...`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cpuruntime as ov
from cpuruntime.cache.contents import ModelFile, content_digest
from cpuruntime.cache.entry import SUFFIX, folder_of
from cpuruntime.cache.plans import plan_key
from cpuruntime.compiler import isa
from cpuruntime.devices.cpu.plan_file import kernels_of, without_weights
from cpuruntime.devices.host import Devices
from cpuruntime.store import Pack, SectionFile, write_pack


def main(kernels: str, file: str, *models: str) -> None:
    """Writes a pack with the plans of models whose kernels are all in another pack, and a line for each model."""
    known = set(Pack(Path(kernels)).levels[isa.current().cpu])
    plans: dict[str, dict[str, tuple[str, bytes]]] = {}
    for model in models:
        try:
            key, plan, needed = planned(model)
            if not needed <= known:
                raise ov.UnsupportedError("it runs kernels that a pack cannot have.")
            plans.setdefault(str(Path(model).stat().st_size), {})[key] = Path(model).name, plan
            print(f"{model}: a plan for this processor", flush=True)
        except ov.UnsupportedError as error:
            print(f"{model}: no plan: {error}", flush=True)
    write_pack(Path(file), {}, {}, plans)


def planned(model: str) -> tuple[str, bytes, set[str]]:
    """What the plan of a model file is found by, the plan, and its kernels; UnsupportedError where it has none."""
    with tempfile.TemporaryDirectory() as cache:
        with ov.Core().compile_model(model, "CPU", {"COMPILE_MODE": "OPTIMIZED", "CACHE_DIR": cache}) as compiled:
            stored = next(Path(cache).glob(f"*{SUFFIX}"), None)
            if stored is None:
                compiled.export_model()  # which says why
                raise ov.UnsupportedError("it was not stored; the log says why.")
            with stored.open("rb") as opened:
                found = SectionFile.mapped(opened.fileno())
        with open(model, "rb") as opened:
            digest = content_digest(opened.fileno())
            is_alone = ModelFile(model, folder_of(cache)).digest == digest()
        if not is_alone:
            raise ov.UnsupportedError("it has external data.")
    plan = without_weights(found)
    if plan is None:
        raise ov.UnsupportedError("it has dynamic shapes, or weights that are not packed from those in its file.")
    plugin = Devices().plugin("CPU")
    return plan_key(digest, plugin, plugin.settings(None)), plan, kernels_of(found)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (ov.Error, OSError) as error:
        sys.exit(f"[ ERROR ] {error}")
