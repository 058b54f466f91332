"""Recipes: how another process makes a kernel again, as data.

A recipe is a list: the module, the name in it, and for a kernel that a factory makes the factory's arguments. These are
numbers, strings, tuples and frozen dataclasses of the package; as JSON, tuples are lists and dataclasses are objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from importlib import import_module
from operator import index
from typing import Any, ParamSpec, Protocol, TypeVar

PACKAGE = __name__.partition(".")[0]


class Made(Protocol):
    """What has a recipe: a kernel."""

    recipe: str | None


P = ParamSpec("P")
M = TypeVar("M", bound=Made)


def factory(function: Callable[P, M]) -> Callable[P, M]:
    """Declares a function of a module that makes kernels; the innermost one gives a kernel its recipe."""

    @wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> M:
        plain, named = tuple(map(_plain, args)), {name: _plain(value) for name, value in kwargs.items()}
        kernel = function(*plain, **named)
        if kernel.recipe is None and _is_known(function.__module__):
            kernel.recipe = written(function.__module__, function.__name__, *plain, named)
        return kernel

    return make


def of_function(function: Callable[..., Any]) -> str | None:
    """The recipe of a kernel that a module of the package declares at its top level."""
    if function.__qualname__ == function.__name__ and _is_known(function.__module__):
        return written(function.__module__, function.__name__)
    return None


def written(module: str, name: str, *arguments: Any) -> str:
    """A recipe as JSON; the last argument is a dict of those with names."""
    return json.dumps([module, name, *map(encoded, arguments)])


def follow(recipe: str) -> Any:
    """The kernel of a recipe.

    Raises:
        ValueError: it names a module outside the package.
    """
    module, name, *arguments = json.loads(recipe)
    found = _attribute(module, name)
    if not arguments:
        return found
    *positional, named = map(decoded, arguments)
    return found(*positional, **named)


def _is_known(module: str) -> bool:
    return module.startswith(f"{PACKAGE}.")


def _attribute(module: str, name: str) -> Any:
    if not _is_known(module):
        raise ValueError(f"a recipe names module {module!r}; it must belong to {PACKAGE}")
    return getattr(import_module(module), name)


def _plain(value: Any) -> Any:
    """An argument whose numbers are plain: a `Size` becomes the number that it is."""
    if type(value) is tuple:
        return tuple(map(_plain, value))
    return value if isinstance(value, int) or not hasattr(value, "__index__") else index(value)


def encoded(value: Any) -> Any:
    """An argument, for JSON."""
    if isinstance(value, tuple):
        return [encoded(each) for each in value]
    if isinstance(value, dict):
        return {name: encoded(each) for name, each in value.items()}
    if is_dataclass(value):
        kind = type(value)
        return {"": [kind.__module__, kind.__name__, *(encoded(getattr(value, f.name)) for f in fields(value))]}
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"a kernel's factory takes {value!r}, which a recipe cannot hold")


def decoded(value: Any) -> Any:
    """An argument that was `encoded`. Raises ValueError where it names a module outside the package."""
    if isinstance(value, list):
        return tuple(decoded(each) for each in value)
    if isinstance(value, dict):
        if "" in value:
            module, name, *arguments = value[""]
            return _attribute(module, name)(*map(decoded, arguments))
        return {name: decoded(each) for name, each in value.items()}
    return value
