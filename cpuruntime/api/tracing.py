"""Models that were compiled before a timeline is opened, and are recorded in it."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cpuruntime.api.infer_request import InferRequest
from cpuruntime.api.shared import Shared
from cpuruntime.host import forks

if TYPE_CHECKING:
    from cpuruntime.devices.traced import TracedModel

Models = MutableMapping[Shared, str]
"""Compiled models, with the names of their devices; they may go at any time."""


@contextmanager
def recorded_too(models: Models, path: str) -> Iterator[None]:
    """Record inferences of models, also those of the requests that they have already, until the statement ends.

    Of their steps only those are recorded that are timed for PERF_COUNT.
    """
    added = _begin(models, path)
    try:
        yield
    finally:
        _end(models, added)


def _begin(models: Models, path: str) -> set[TracedModel]:
    from cpuruntime.devices.traced import TracedRequest, traced  # not above: few processes record

    added = {}
    for shared, device in list(models.items()):
        has_steps = shared.device.properties.get("PERF_COUNT", False)
        shared.device = added[shared] = traced(shared.device, path, device, has_steps)
    for request in _requests():
        model = added.get(request._shared)
        if model is not None:
            request._run_by(TracedRequest(model, request._device))
    return set(added.values())


def _end(models: Models, added: set[TracedModel]) -> None:
    from cpuruntime.devices.traced import TracedModel, TracedRequest

    for shared in list(models):
        if isinstance(shared.device, TracedModel) and shared.device in added:
            shared.device = shared.device.model
    for request in _requests():
        device = request._device
        if isinstance(device, TracedRequest) and device.model in added:
            request._run_by(device.worker)


def _requests() -> list[InferRequest]:
    """All that there are; a list of references is made in one step, whatever other threads do."""
    found = [reference() for reference in list(forks.objects.data)]
    return [one for one in found if isinstance(one, InferRequest)]
