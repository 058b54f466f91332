"""Processes around a Ray cluster: clients of device RAY, what they leave behind, and where they listen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

CLIENT = Path(__file__).with_name("ray_client.py")


class Client:
    """A process of its own with a model on RAY that infers without pause."""

    def __init__(self, config: dict[str, Any], address: str) -> None:
        command = [sys.executable, str(CLIENT), json.dumps(config)]
        environment = {**os.environ, "RAY_ADDRESS": address}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        with self.process:  # closes its input
            pass

    def state(self) -> dict[str, Any]:
        """What it says of itself; waits until it has its model."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        """End it at once."""
        with self.process:
            self.process.kill()


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def stored_bytes() -> float:
    """How much memory of the nodes' object stores is in use."""
    import ray

    name = "object_store_memory"
    return ray.cluster_resources().get(name, 0) - ray.available_resources().get(name, 0)


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and that these have."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def listening(pid: int) -> list[str]:
    """The addresses that a process listens on, as Linux writes them."""
    held = set()
    for path in Path(f"/proc/{pid}/fd").glob("*"):
        with suppress(OSError):
            held.add(os.readlink(path))
    tables = [Path(f"/proc/thread-self/net/{family}").read_text() for family in ("tcp", "tcp6")]
    sockets = [line.split() for table in tables for line in table.splitlines()[1:]]
    return [one[1] for one in sockets if one[3] == "0A" and f"socket:[{one[9]}]" in held]
