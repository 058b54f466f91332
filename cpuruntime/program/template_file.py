"""Templates in a file of sections: their formulas and frames, as `program.file` has programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cpuruntime.errors import ModelError, UnsupportedError
from cpuruntime.graph import Type
from cpuruntime.program import native
from cpuruntime.program.common_sections import Parts, Pool, Sections, StoredSteps, copied, steps_section
from cpuruntime.program.evaluation import Evaluation
from cpuruntime.program.frame import PORTS, Filled, Frame
from cpuruntime.program.image import code_of
from cpuruntime.program.plan.tables import NAMED
from cpuruntime.program.program import Program, Segment
from cpuruntime.store import SectionFile

if TYPE_CHECKING:
    from cpuruntime.program.template import Template

COLUMNS = {"words": 1, "entries": 4, "operations": 3, "terms": 2}
"""The arrays of the section of numbers, one after the other, with the length of their rows."""


def add(template: Template, extents: Sequence[int], name: str, pool: Pool, sections: Sections) -> dict[str, Any]:
    """The facts about a template, whose own sections are added with names that begin with `name`.

    Reports are about the shapes of these extents. Raises UnsupportedError where the reference evaluator runs a node of
    it, or the content of a table follows from sizes in a way that has no name.
    """
    if template.falls_back:
        raise UnsupportedError("the reference evaluator runs a node of it.")
    frame, evaluation = template.frame, template.evaluation
    words, entries, terms = frame.words.copy(), frame.entries.copy(), evaluation.terms.copy()
    for word, _ in frame.kernels:
        words[word] = 0
    for term, _ in template.formulas.kernels:
        terms[term, 0] = 0
    for entry, number in frame.fixed:
        entries[entry, 3] -= frame.weights[number].ctypes.data
    arrays = dict(zip(COLUMNS, (words, entries, evaluation.operations, terms)))
    template.show(extents)
    sections[f"{name} numbers"] = [array.reshape(-1).view(np.uint8).data for array in arrays.values() if array.size]
    sections[f"{name} steps"] = steps_section(template.planned)
    return {
        "rows": [len(array) for array in arrays.values()],
        "symbols": evaluation.symbols,
        "steps": frame.steps,
        "work": frame.work,
        "faults": frame.faults,
        "ports": [[(rows, dtype.name) for rows, dtype in side] for side in frame.ports],
        "tables": [(_name_of(make), rows) for make, rows in frame.tables],
        "tail": frame.tail,
        "first_table": frame.first_table,
        "word_kernels": [(word, pool.kernel(kernel)) for word, kernel in frame.kernels],
        "term_kernels": [(term, pool.kernel(kernel)) for term, kernel in template.formulas.kernels],
        "fixed": [(entry, pool.weights(frame.weights[number])) for entry, number in frame.fixed],
        "arena_size": template.arena_size,
        "unshared": template.unshared,
        "planned": len(template.planned),
    }


def _name_of(make: Any) -> str:
    for name, known in NAMED.items():
        if make is known:
            return name
    raise UnsupportedError("a table of its kernels is computed anew for each shape.")


class StoredTemplate:
    """The template that was added under a name; its sections must have been checked. Thread-safe.

    Raises ValueError where it does not fit together.
    """

    def __init__(self, facts: Mapping[str, Any], name: str, parts: Parts, file: SectionFile) -> None:
        numbers = copied(file[f"{name} numbers"]).view(np.int64)
        arrays, position = {}, 0
        for (key, columns), rows in zip(COLUMNS.items(), facts["rows"], strict=True):
            arrays[key] = numbers[position : position + columns * rows].reshape(rows, columns)
            position += columns * rows
        words, entries, terms = arrays["words"][:, 0], arrays["entries"], arrays["terms"]
        if position != len(numbers):
            raise ValueError("the sizes of its sections do not fit together")
        _check(facts, arrays, [parts.weights(number).nbytes for _, number in facts["fixed"]])
        for word, kernel in facts["word_kernels"]:
            words[word] = _code(parts, kernel)
        for term, kernel in facts["term_kernels"]:
            terms[term, 0] = _code(parts, kernel)
        weights = [parts.weights(number) for _, number in facts["fixed"]]
        for (entry, _), array in zip(facts["fixed"], weights):
            entries[entry, 3] += array.ctypes.data
        self._evaluation = Evaluation(facts["symbols"], arrays["operations"], terms)
        self._frame = Frame(
            facts["steps"], facts["work"], facts["faults"],
            [[(rows, Type(dtype).to_dtype()) for rows, dtype in side] for side in facts["ports"]],
            [(NAMED[make], rows) for make, rows in facts["tables"]],
            facts["tail"], facts["first_table"], words, entries, weights, [], [],
        )  # fmt: skip
        self._arena_size, self._unshared = facts["arena_size"], facts["unshared"]
        self._steps = StoredSteps(file[f"{name} steps"], facts["planned"])

    def at(self, extents: Sequence[int]) -> Program | None:
        """As `Template.at`."""
        values = self._evaluation.at(extents)
        if values is None:
            return None
        image = Filled(self._frame, values, self._arena_size)
        segments = [Segment(0, self._frame.steps)] if self._frame.steps else []
        return Program(self._steps, segments, image, 1, image.numbers[self._unshared], key=self._frame)


def _code(parts: Parts, kernel: int) -> int:
    try:
        return code_of(parts.kernel(kernel))
    except ModelError as error:
        raise ValueError(str(error)) from error


def _check(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray], sizes: Sequence[int]) -> None:
    """ValueError when something in a template refers to a word, register or byte that there is not.

    `sizes` are the bytes of the weights of `fixed`.
    """
    words, entries, operations, terms = arrays.values()
    registers = 1 + facts["symbols"] + len(operations)
    memory = 8 * (len(words) + registers)
    kind, first, last = operations.T
    reads_terms = np.isin(kind, (native.SUM, native.PLACE))
    listed = [facts["work"], facts["arena_size"], facts["unshared"]]
    listed += [piece for message in facts["faults"] for piece in message if not isinstance(piece, str)]
    listed += [row for side in facts["ports"] for rows, _ in side for row in rows]
    listed += [row for _, rows in facts["tables"] for row in rows]
    fixed = np.array([entry for entry, _ in facts["fixed"]], np.int64)
    offsets = entries[fixed, 3] if _all_below(len(entries), fixed) else np.full(len(fixed), -1)
    fits = (
        _all_below(8 * len(words), entries[:, 0])
        and _all_below(memory, entries[:, 1], entries[:, 2])
        and _all_below(8 * registers, terms[:, 1], first[~reads_terms], last[kind <= native.DIVIDE])
        and _all_below(len(terms) + 1, first[reads_terms], last[reads_terms])
        and _all_below(native.NOT_NEGATIVE + 1, kind)
        and _all_below(registers, listed)
        and _all_below(len(words), [word for word, _ in facts["word_kernels"]])
        and _all_below(len(terms), [term for term, _ in facts["term_kernels"]])
        and bool((offsets >= 0).all() and (offsets <= np.array(sizes, np.int64)).all())
        and 2 * facts["steps"] <= facts["tail"] <= facts["first_table"] - PORTS
        and facts["first_table"] + len(facts["tables"]) == len(words)
    )
    if not fits:
        raise ValueError("a number in it is out of range")


def _all_below(limit: int, *numbers: Iterable[int]) -> bool:
    """Whether all numbers are at least 0 and below a limit."""
    arrays = [np.asarray(one, np.int64) for one in numbers]
    return all(bool(((array >= 0) & (array < limit)).all()) for array in arrays)
