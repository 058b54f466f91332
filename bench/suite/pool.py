"""Runs the suite in processes that may crash or hang: each case and engine has a time limit."""

from __future__ import annotations

import json
import os
import queue
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent.parent
WORKER = "suite.worker"
GENERATION_SECONDS = 300.0


@dataclass
class Found:
    """What became known of one case: `outcomes` has an outcome and a reason for each engine."""

    kind: str
    operator: str
    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass
class Suite:
    """The families to run, the engines, and the expression that the names of cases match."""

    families: Sequence[str]
    engines: Sequence[str]
    only: str
    seconds: float
    cases: dict[str, Found] = field(default_factory=dict)

    def run(self, processes: int, progress: Callable[[str], None]) -> None:
        """Fills `cases`, with that many processes at a time."""
        waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for family in self.families:
            waiting.put(family)
        threads = [threading.Thread(target=self._serve, args=(waiting, progress)) for _ in range(processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _serve(self, waiting: queue.SimpleQueue[str], progress: Callable[[str], None]) -> None:
        worker = Worker()
        while True:
            try:
                family = waiting.get_nowait()
            except queue.Empty:
                return worker.close()
            progress(f"{family}, {len(self.cases)} cases before it")
            done: list[list[str]] = []
            while not self._family(worker, family, done):
                worker.close()
                worker = Worker()

    def _family(self, worker: Worker, family: str, done: list[list[str]]) -> bool:
        """Runs what is not done of a family; False when the process is over, and the rest is to be run by another."""
        worker.send({"family": family, "engines": self.engines, "only": self.only, "done": done})
        current: list[str] = []
        while True:
            answer = worker.read(self.seconds if current else GENERATION_SECONDS)
            if "end" in answer:
                return True
            if "begin" in answer:
                current = answer["begin"]
                self.cases.setdefault(current[0], Found(answer["kind"], answer["operator"]))
                continue
            if not current:
                raise RuntimeError(f"the cases of {family} cannot be had: {answer['outcome']}, {answer['reason']}")
            case, engine = current
            self.cases[case].outcomes[engine] = (answer["outcome"], answer["reason"])
            done.append(current)
            if answer["outcome"] in ("crash", "hang"):
                return False
            current = []


class Worker:
    """A process of suite/worker.py."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(BENCH), *sys.path]))},
        )
        self._text = b""

    def send(self, command: dict[str, Any]) -> None:
        """Gives the process a command."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(command).encode() + b"\n")

    def read(self, seconds: float) -> dict[str, Any]:
        """The next answer; the outcome `hang` when there is none within the time, `crash` when the process ended."""
        output = self._child.stdout
        assert output is not None
        while b"\n" not in self._text:
            if not select.select([output], [], [], seconds)[0]:
                return {"outcome": "hang", "reason": f"more than {seconds:g} s"}
            part = output.read(65536)
            if not part:
                return {"outcome": "crash", "reason": f"exit code {self._child.wait()}"}
            self._text += part
        line, _, self._text = self._text.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream:
                stream.close()
