"""The parent's side of the process of an installation."""

from __future__ import annotations

import json
import select
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from cpuruntime.compare.installations import Installation
from cpuruntime.errors import MESSAGE, Error, printable
from cpuruntime.store import trusted_environment

START_SECONDS = 900.0
SLACK_SECONDS = 120.0


class SideError(Error):
    """A side refused a command, died or went silent; the message says which."""


class SideProcess:
    """Runs worker.py for the side called `name` and talks to it. A context manager: leaving it ends the process.

    Each process has a ledger of pinned cores of its own: both sides take the same cores, and one of them sleeps.
    Bytecode is kept in a folder of the comparison, so that no side compiles its modules again at each start: where a
    source tree has none, where it cannot be written there, or where the environment forbids to write it.
    """

    def __init__(self, name: str, installation: Installation) -> None:
        self._name = name
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  closed in __exit__
        self._ledger = tempfile.TemporaryDirectory(prefix="cpuruntime-ledger-")
        self._child = subprocess.Popen(
            [installation.python, str(Path(__file__).with_name("worker.py")), installation.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            bufsize=0,
            cwd=self._ledger.name,
            env=self._environment(installation.bytecode),
        )

    def _environment(self, bytecode: str) -> dict[str, str]:
        found = {**trusted_environment(), "CPURUNTIME_LEDGER_DIR": self._ledger.name, "PYTHONPYCACHEPREFIX": bytecode}
        found.pop("PYTHONDONTWRITEBYTECODE", None)
        return found

    def __enter__(self) -> SideProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout, self._messages):
            stream.close()
        self._ledger.cleanup()

    def ask(self, command: str, patience: float = START_SECONDS, **values: Any) -> dict[str, Any]:
        """The answer to a command. Raises SideError."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            self._child.stdin.write(json.dumps({"command": command, **values}).encode() + b"\n")
        except BrokenPipeError:
            raise self._ended() from None
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._child.stdout], [], [], patience)[0]:
                raise SideError(f"{self._name}: no answer to '{command}' within {patience:g} s")
            part = self._child.stdout.read(65536)
            if not part:
                raise self._ended()
            line += part
        answer = json.loads(line)
        if "error" in answer:
            raise SideError(f"{self._name}: {printable(answer['error'], MESSAGE)}")
        return answer

    def slice(self, seconds: float) -> dict[str, Any]:
        """Measures for a time."""
        return self.ask("slice", 2 * seconds + SLACK_SECONDS, seconds=seconds)

    def _ended(self) -> SideError:
        code = self._child.wait()
        self._messages.seek(0)
        lines = self._messages.read().decode(errors="replace").strip().splitlines()
        said = f": {printable(lines[-1], MESSAGE)}" if lines else ""
        return SideError(f"{self._name}: the process ended with exit code {code}{said}")
