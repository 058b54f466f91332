"""The parent's side of an engine's process."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from peer.models import ModelFile

BENCH = Path(__file__).resolve().parent.parent
LOAD_SECONDS = 600.0
SLACK_SECONDS = 120.0


class EngineError(Exception):
    """The engine refused a command, died or went silent; the message says which."""


class EngineProcess:
    """Runs peer/worker.py and talks to it. A context manager: leaving it ends the process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  closed in __exit__
        self.child = subprocess.Popen(
            [sys.executable, "-m", "peer.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(BENCH), *sys.path]))},
        )

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.child.poll() is None and kind is None:
            self._send({"command": "quit"})
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
        elif self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        for stream in (self.child.stdin, self.child.stdout, self._messages):
            if stream:
                stream.close()

    def load(
        self, model: ModelFile, *, mode: str, device: str, outputs: Path, precision: str = "f32"
    ) -> dict[str, Any]:
        """Loads the model, infers once and leaves the outputs in the file `outputs`."""
        files = {"model": str(model.path), "inputs": str(model.inputs), "outputs": str(outputs)}
        command = {"command": "load", "engine": self.name, "mode": mode, "device": device, "names": model.names}
        command["precision"] = precision
        return self._ask({**command, **files}, LOAD_SECONDS)

    def slice(self, seconds: float) -> dict[str, Any]:
        """Measures for `seconds`."""
        return self._ask({"command": "slice", "seconds": seconds}, 2 * seconds + SLACK_SECONDS)

    def _ask(self, command: dict[str, Any], patience: float) -> dict[str, Any]:
        self._send(command)
        stdout = self.child.stdout
        assert stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([stdout], [], [], patience)[0]:
                raise EngineError(f"no answer to {command['command']} within {patience:g} s")
            part = stdout.read(65536)
            if not part:
                raise EngineError(f"the process ended{self._last_message()}")
            line += part
        answer = json.loads(line)
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer

    def _send(self, command: dict[str, Any]) -> None:
        assert self.child.stdin is not None
        try:
            self.child.stdin.write(json.dumps(command).encode() + b"\n")
        except BrokenPipeError:
            raise EngineError(f"the process ended{self._last_message()}") from None

    def _last_message(self) -> str:
        code = self.child.wait()
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").strip().splitlines()
        return f" with exit code {code}: {lines[-1]}" if lines else f" with exit code {code}"
