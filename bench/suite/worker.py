"""A process that runs cases: reads one JSON command a line from stdin, and writes JSON lines to stdout.

{"family", "engines", "only", "done": [[case, engine], ...]}
    -> for each case and engine: {"begin": [case, engine], "kind", "operator"}, {"outcome", "reason"}
    -> {"end": true}
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from suite.cases import cases
from suite.engines import attempt


def answers(command: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The answers to a command."""
    done = {tuple(pair) for pair in command["done"]}
    for case in cases(command["family"]):
        for engine in command["engines"]:
            if re.search(command["only"], case.name) and (case.name, engine) not in done:
                yield {"begin": [case.name, engine], "kind": case.kind, "operator": case.operator}
                outcome, reason = attempt(engine, case)
                yield {"outcome": outcome, "reason": reason}
    yield {"end": True}


def main() -> None:
    """Serves commands until the end of stdin. What libraries print is lost."""
    output = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    for line in sys.stdin:
        for answer in answers(json.loads(line)):
            print(json.dumps(answer), file=output, flush=True)


if __name__ == "__main__":
    main()
