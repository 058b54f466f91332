"""The streams of a model. Where a driver does not come back from a call, the inference fails and others go on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING

from cpuruntime.devices.gpu.stream import Stream
from cpuruntime.errors import printable
from cpuruntime.gpu_runtime.end import End, hung

if TYPE_CHECKING:
    from cpuruntime.devices.gpu.program import Program
    from cpuruntime.devices.gpu.stream import Bound
    from cpuruntime.devices.serial import _Inference, _Queue

LOOKS = 10
"""How often in `End.MOST_SECONDS` a thread looks for calls that do not come back; arbitrary."""


class Pool:
    """Streams, each idle or with an inference, and a thread that looks at them until the model is closed and idle.

    Args:
        queue: where the model's threads take inferences from; one more serves it in place of one that is stuck.
        name: the model's.
    """

    def __init__(self, streams: Sequence[Stream], queue: _Queue, name: str) -> None:
        self._count = len(streams)
        self._queue, self._name = queue, name
        self._idle: SimpleQueue[Stream] = SimpleQueue()
        self._running: dict[Stream, _Inference] = {}
        self._closed: SimpleQueue[None] = SimpleQueue()  # its `put` is safe in finalizers
        for stream in streams:
            self._idle.put(stream)
        threading.Thread(target=self._look, name="cpuruntime-gpu-watch", daemon=True).start()

    def run(self, inference: _Inference, program: Program, ports: Sequence[Bound]) -> list[int]:
        """Run an inference on an idle stream, as `Stream.run`."""
        stream = self._idle.get()
        self._running[stream] = inference
        try:
            return stream.run(program, ports)
        finally:
            if self._running.pop(stream, None) is not None:  # else another one stands in for it
                self._idle.put(stream)

    def release_memory(self) -> None:
        """Free the memory of idle streams."""
        for _ in range(self._count):
            if self._idle.empty():
                return
            stream = self._idle.get()
            stream.release_memory()
            self._idle.put(stream)

    def close(self) -> None:
        """Let the thread end after the last inference."""
        self._closed.put(None)

    def _look(self) -> None:
        is_open = True
        while is_open or self._running or self._queue.is_waiting:
            try:
                self._closed.get(timeout=End.MOST_SECONDS / LOOKS)
                is_open = False
            except Empty:
                self._replace_stuck()

    def _replace_stuck(self) -> None:
        """End the inferences of streams that are stuck in the driver; new streams and threads serve in their place."""
        for stream in [*self._running]:
            entered = stream.entered
            if not entered or monotonic() - entered < End.MOST_SECONDS:
                continue
            inference = self._running.pop(stream, None)
            device, name = stream.runtime.facts.name, printable(self._name)
            what = f"{device} did not take an inference of model '{name}'"
            if inference is not None and inference.end(hung(what)):
                self._idle.put(stream.successor())
                self._queue.start_thread("cpuruntime-gpu-again")
