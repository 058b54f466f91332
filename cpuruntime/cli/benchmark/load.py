"""Open loops: requests that arrive when the load says so, whether or not earlier ones are finished."""

from __future__ import annotations

import argparse
import math
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, repeat
from pathlib import Path

from cpuruntime.cli.inputs import SEED

BURST, BURST_SECONDS = 16, 1.0
_FORMS = "open:RATE, burst, burst:COUNT:SECONDS or trace:FILE"


@dataclass(frozen=True)
class Load:
    """A load: its description, and the seconds at which requests arrive, rising from 0; `is_endless` but for traces."""

    text: str
    arrivals: Callable[[], Iterator[float]]
    is_endless: bool = True

    def __str__(self) -> str:
        return self.text


def load(text: str) -> Load:
    """The load of --load, an argparse type.

    `open:RATE` is a Poisson process of RATE requests a second; `burst:COUNT:SECONDS` has COUNT at once every SECONDS;
    `trace:FILE` has them at the seconds in a file's lines.
    """
    kind, _, rest = text.partition(":")
    if kind == "open":
        rate = _number(rest, f"the RATE of '{text}'")
        return Load(f"{text} (Poisson)", lambda: _poisson(rate))
    if kind == "burst":
        size, _, seconds = rest.partition(":")
        number = int(size) if re.fullmatch("[1-9][0-9]{0,5}", size) else None if size else BURST
        if number is None:
            raise argparse.ArgumentTypeError(f"the COUNT of '{text}' must be a whole number from 1 to 999999")
        pause = _number(seconds, f"the SECONDS of '{text}'") if seconds else BURST_SECONDS
        return Load(f"burst ({number} requests every {pause:g} s)", lambda: _bursts(number, pause))
    if kind == "trace" and rest:
        moments = _trace(Path(rest))
        return Load(f"{text} ({len(moments)} requests)", lambda: iter(moments), is_endless=False)
    raise argparse.ArgumentTypeError(f"'{text}' is no load; give {_FORMS}")


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"{what} must be a number greater than 0 and at most 1000000")
    return value


def _poisson(rate: float) -> Iterator[float]:
    generator, moment = random.Random(SEED), 0.0
    while True:
        moment += generator.expovariate(rate)
        yield moment


def _bursts(size: int, pause: float) -> Iterator[float]:
    for burst in count():
        yield from repeat(burst * pause, size)


def _trace(path: Path) -> list[float]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"trace '{path}' cannot be read: {error}") from None
    moments: list[float] = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            moment = float(text)
        except ValueError:
            moment = math.nan
        if not (math.isfinite(moment) and moment >= (moments[-1] if moments else 0.0)):
            raise argparse.ArgumentTypeError(
                f"line {number} of trace '{path}' is '{text[:40]}'; it must be seconds, not below 0 or the line before"
            )
        moments.append(moment)
    if not moments:
        raise argparse.ArgumentTypeError(f"trace '{path}' has no line; each is the seconds at which a request arrives")
    return moments
