"""The suite: which models are compared in which modes, for how long, and what counts as a change. A TOML file.

    seconds = 20                 # of each model and mode, for both sides together
    processes = 6                # pairs of processes of each model and mode
    confidence = 99              # percent
    modes = ["latency1"]         # latency, latencyN, throughput

    [thresholds]                 # percent: the smallest change that matters
    time = 3

    [[model]]
    path = "light:squeezenet"    # or an ONNX file, relative to the suite
    modes = ["latency", "throughput"]
    shapes = { data = [1, 3, 224, 224] }
    config = { INFERENCE_PRECISION_HINT = "f32" }
    inputs = "inputs.npz"        # default: seeded random numbers
    output = "output.npz"        # both sides' outputs are compared with it
    tolerance = 1e-3             # of the largest magnitude
    thresholds = { time = 5 }
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpuruntime.errors import InvalidArgumentError, listed, nearest, printable
from cpuruntime.frontend.light_models import full_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIGHT = "light:"
MODE = re.compile(r"latency([1-9]\d{0,3})?|throughput")
METRICS = {"time": 3.0, "startup": 15.0, "first": 25.0, "memory": 5.0, "wheel": 5.0}
"""What is compared, with the default threshold in percent: the time of an inference, of start and compilation, of the
first inference, the peak of resident memory, the size of the compressed package."""


@dataclass(frozen=True)
class SuiteModel:
    """A model of the suite. `thresholds` are in percent, by metric."""

    name: str
    path: str
    modes: tuple[str, ...]
    thresholds: Mapping[str, float]
    shapes: Mapping[str, list[int]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: Path | None = None
    output: Path | None = None
    tolerance: float = 1e-3


@dataclass(frozen=True)
class Suite:
    """All models, and how long each is measured in each mode."""

    models: tuple[SuiteModel, ...]
    seconds: float = 20.0
    processes: int = 6
    confidence: float = 99.0
    wheel_threshold: float = METRICS["wheel"]

    @property
    def alpha(self) -> float:
        """The probability of any false finding among all rows."""
        return 1 - self.confidence / 100


def read_suite(path: Path) -> Suite:
    """The suite in a file. Raises InvalidArgumentError, which names the file, the entry, its value and the rule."""
    try:
        return suite_of(tomllib.loads(path.read_text()), path.parent)
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"{path} is not text.") from None
    except (tomllib.TOMLDecodeError, InvalidArgumentError) as error:
        raise InvalidArgumentError(f"{path}: {error}") from None


def suite_of(table: Mapping[str, Any], folder: Path) -> Suite:
    """The suite of a parsed file; paths are relative to `folder`."""
    found = _checked(table, "the suite", SUITE_ENTRIES)
    models = [_model(entry, number, found, folder) for number, entry in enumerate(found.get("model", []), 1)]
    if not models:
        raise InvalidArgumentError("the suite has no [[model]].")
    names = [model.name for model in models]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InvalidArgumentError(f"two models have the name '{printable(twice[0])}'; give each a 'name' of its own.")
    settings = {name: found[name] for name in ("seconds", "processes", "confidence") if name in found}
    thresholds = {**METRICS, **found.get("thresholds", {})}
    return Suite(tuple(models), **settings, wheel_threshold=thresholds["wheel"])


def _model(entry: Any, number: int, suite: Mapping[str, Any], folder: Path) -> SuiteModel:
    where = f"[[model]] {number}"
    found = _checked(entry, where, MODEL_ENTRIES)
    if "path" not in found:
        raise InvalidArgumentError(f"{where} has no 'path'.")
    path = found["path"]
    if path.startswith(LIGHT):
        path = LIGHT + full_name(path.removeprefix(LIGHT))
    else:
        path = str(_file(path, folder, f"{where}: path"))
    for name in ("inputs", "output"):
        if name in found:
            found[name] = _file(found[name], folder, f"{where}: {name}")
    thresholds = {**METRICS, **suite.get("thresholds", {}), **found.pop("thresholds", {})}
    name = found.pop("name", Path(path.removeprefix(LIGHT)).stem)
    modes = tuple(found.pop("modes", suite.get("modes", ["latency"])))
    return SuiteModel(**{**found, "name": name, "path": path, "modes": modes, "thresholds": thresholds})


def _file(text: str, folder: Path, where: str) -> Path:
    path = (folder / text).absolute()
    if not path.is_file():
        raise InvalidArgumentError(f"{where}: there is no file '{path}'.")
    return path


Check = Callable[[Any], bool]


def _number(low: float, high: float) -> Check:
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _are_modes(value: Any) -> bool:
    right = isinstance(value, list) and all(isinstance(mode, str) and MODE.fullmatch(mode) for mode in value)
    return right and len(value) == len(set(value)) > 0


def _are_thresholds(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_number(0.1, 1000), value.values()))


def _are_shapes(value: Any) -> bool:
    positive = _number(1, 2**31)
    return isinstance(value, dict) and all(
        isinstance(shape, list) and all(isinstance(size, int) and positive(size) for size in shape)
        for shape in value.values()
    )


MODES_RULE = "a list of different modes: latency, latencyN with N threads, throughput"
THRESHOLDS_RULE = f"a table of percentages from 0.1 to 1000 for {', '.join(METRICS)}"
SUITE_ENTRIES: dict[str, tuple[Check, str]] = {
    "seconds": (_number(1, 86400), "a number from 1 to 86400"),
    "processes": (lambda value: isinstance(value, int) and 4 <= value <= 100, "a whole number from 4 to 100"),
    "confidence": (_number(80, 99.99), "a number from 80 to 99.99"),
    "modes": (_are_modes, MODES_RULE),
    "thresholds": (_are_thresholds, THRESHOLDS_RULE),
    "model": (lambda value: isinstance(value, list), "a list: write [[model]]"),
}
MODEL_ENTRIES: dict[str, tuple[Check, str]] = {
    "name": (_is_text, "text"),
    "path": (_is_text, "text: an ONNX file, or light:NAME"),
    "modes": (_are_modes, MODES_RULE),
    "thresholds": (_are_thresholds, THRESHOLDS_RULE),
    "shapes": (_are_shapes, "a table of lists of positive whole numbers"),
    "config": (lambda value: isinstance(value, dict), "a table of properties"),
    "inputs": (_is_text, "text: an .npz file"),
    "output": (_is_text, "text: an .npz file"),
    "tolerance": (_number(0, 1), "a number from 0 to 1"),
}


def _checked(table: Any, where: str, entries: Mapping[str, tuple[Check, str]]) -> dict[str, Any]:
    """A copy of a table whose entries are known and right. Raises InvalidArgumentError."""
    if not isinstance(table, dict):
        raise InvalidArgumentError(f"{where} is {table!r} and must be a table.")
    for name, value in table.items():
        if name not in entries:
            raise InvalidArgumentError(
                f"{where} has '{printable(name)}', which is no entry.{nearest(name, entries)} Known: {listed(entries)}."
            )
        check, rule = entries[name]
        if not check(value):
            raise InvalidArgumentError(f"{where}: {name} = {printable(repr(value))} must be {rule}.")
        if name == "thresholds":
            for metric in value:
                if metric not in METRICS:
                    raise InvalidArgumentError(
                        f"{where}: thresholds has '{printable(metric)}', which is no metric."
                        f"{nearest(metric, METRICS)} Known: {listed(METRICS)}."
                    )
    return dict(table)
