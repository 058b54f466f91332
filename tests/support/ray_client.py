"""A process with a model on device RAY that infers without pause; for each line that it reads it writes its state.

    python ray_client.py CONFIG

CONFIG is JSON. It ends with its input.
"""

from __future__ import annotations

import json
import re
import sys
import threading

import numpy as np

import cpuruntime as ov
from cpuruntime.testing.conformance import models


def main() -> None:
    """Infer until the input ends."""
    served, wrong, stop = 0, 0, threading.Event()

    def over(request: ov.InferRequest, value: int) -> None:
        nonlocal served, wrong
        served += 1
        wrong += bool((request.results[0] != -value).any())

    def infer() -> None:
        value = 0
        while not stop.is_set():
            value += 1
            queue.start_async(np.full((2, 3), value, np.float32), value)
        queue.wait_all()

    with ov.Core().compile_model(models.negated(), "RAY", json.loads(sys.argv[1])) as compiled:
        queue = ov.AsyncInferQueue(compiled, 64)
        queue.set_callback(over)
        thread = threading.Thread(target=infer)
        thread.start()
        for _ in sys.stdin:
            text = str(compiled.explain())
            replicas = re.findall(r"ready, process (\d+)", text)
            calls = re.findall(r"at most (\d+) calls", text)
            state = {"replicas": [*map(int, replicas)], "calls": [*map(int, calls)], "served": served, "wrong": wrong}
            print(json.dumps(state), flush=True)
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()
