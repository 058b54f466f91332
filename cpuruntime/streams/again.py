"""Short jobs that run again, as objects that CPython calls without ctypes."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from cpuruntime.compiler.build import never_free
from cpuruntime.compiler.functions import Function
from cpuruntime.streams.call import Call, Varying
from cpuruntime.streams.native import again, inputs, runner
from cpuruntime.streams.records import record_of

_WITH_ARRAY = 0x80  # METH_FASTCALL


class _Definition(ctypes.Structure):
    """A PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )  # fmt: skip


@cache
def _definition(entry: Function) -> _Definition:
    defined = _Definition(entry.name.encode(), entry.address, _WITH_ARRAY, None)
    never_free(defined)
    return defined


@cache
def interpreter() -> np.ndarray | None:
    """The again.PYTHON of this interpreter; None where objects are not as CPython's are that has one lock for all."""
    is_known = sys.implementation.name == "cpython" and object.__basicsize__ == 16
    if not is_known or "t" in sys.abiflags or not _is_main():
        return None
    library = ctypes.pythonapi
    library.PyCapsule_GetPointer.restype = ctypes.c_void_p
    library.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    numpy_api = library.PyCapsule_GetPointer(np._core._multiarray_umath._ARRAY_API, None)
    words = {
        "list_size": library.PyList_Size, "list_item": library.PyList_GetItem, "dict_size": library.PyDict_Size,
        "dict_item": library.PyDict_GetItem, "dict_next": library.PyDict_Next,
        "set_dict_item": library.PyDict_SetItem,
        "attribute": library.PyObject_GetAttr, "set_attribute": library.PyObject_SetAttr,
        "to_word": library.PyLong_AsLongLong, "from_word": library.PyLong_FromLongLong,
        "acquire": library.Py_IncRef, "release": library.Py_DecRef, "new_list": library.PyList_New,
        "set_item": library.PyList_SetItem, "allocate": library.PyType_GenericAlloc,
        "copy_array": (ctypes.c_void_p * 86).from_address(numpy_api)[_NEW_COPY], "move_memory": library.memmove,
        "none": None, "true": True, "false": False, "array": np.ndarray, "list": list, "dict": dict, "name": str,
        "number": int, "address": sys.intern("address"), "arrays": sys.intern("_arrays"),
        "ports": sys.intern("_ports"), "current": sys.intern("_current"),
    }  # fmt: skip
    return record_of(inputs.PYTHON, **words)


_NEW_COPY = 85
"""The place of PyArray_NewCopy in the table of functions that NumPy has for extensions."""


def _is_main() -> bool:
    """Whether this is the interpreter that the process began with."""
    library = ctypes.pythonapi
    library.PyInterpreterState_Get.restype = ctypes.c_void_p
    library.PyInterpreterState_GetID.restype = ctypes.c_int64
    library.PyInterpreterState_GetID.argtypes = [ctypes.c_void_p]
    return library.PyInterpreterState_GetID(library.PyInterpreterState_Get()) == 0


def _made(entry: Function, this: np.ndarray, *held: Any) -> Callable[..., Any]:
    """A function of the interpreter's that calls `entry` with `this`, and holds what the record names."""
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    function: Callable[..., Any] = new(ctypes.addressof(_definition(entry)), this, held)
    return function


def _never(task: int, longest: int) -> int | None:
    """No job runs again where the interpreter is another."""


class Again:
    """What runs jobs again by the streams of a queue, given its lists of idle streams and of tasks that wait.

    Attributes:
        run: given the address of a task and the most nanoseconds that its own job may take, runs the job once more if a
            stream is idle and nothing waits. Returns how many steps were left out, None where it was not run. The
            stream is not lent: the GIL is held all the time, and nobody takes a stream without it.
    """

    def __init__(self, idle: list[Any], queue: list[Any]) -> None:
        self._python = interpreter()
        self.run: Callable[[int, int], int | None] = _never
        if self._python is not None:
            lead = runner.lead_for_task.address
            self._queue = record_of(again.QUEUE, python=self._python, idle=idle, queue=queue, lead=lead)
            self.run = _made(again.run_again, self._queue, idle, queue, self._python)

    def infer(
        self, task: int, call: Call, longest: int, longest_start: int, memory: object, varying: Varying | None = None
    ) -> Callable[..., Any] | None:
        """A function of `inputs, share_inputs, share_outputs` that does what `infer` does, where the job runs again.

        It returns None where it does nothing, and False where it has bound the inputs and the job is to be run
        otherwise: the call has been claimed then. With None in place of `share_outputs` it returns True, and claims
        nothing. `inputs` may be None, an array, a list or a
        dict. None where the interpreter is another.

        Args:
            task: the address of the request's task.
            longest: nanoseconds a job may take, `longest_start` with None in place of `share_outputs`.
            memory: what owns the task's memory.
            varying: where shapes may change.
        """
        if self._python is None:
            return None
        count = len(call.owned)
        sizes = np.array([0 if own is None else own.nbytes for own in call.owned], np.int64)
        slots = np.zeros(count + 3, np.int64)
        words = {
            "running": call.running, "key": call.key, "claim": call.claim, "empty": call.empty,
            "owned": call.owned, "bound": call.bound, "outputs": call.outputs, "sizes": sizes, "slots": slots,
            "positions": call.positions, "port": call.port, "times": call.times, "kind": call.kind, "ports": call.ports,
        }  # fmt: skip
        if varying is not None:
            words |= {
                "seen": varying.table, "device": varying.device, "own_inputs": varying.inputs,
                "own_outputs": varying.outputs, "addresses": varying.addresses,
                "addresses_bytes": varying.addresses.nbytes,
            }  # fmt: skip
        record = record_of(
            inputs.CALL, python=self._python, queue=self._queue, task=task, inputs=count, longest=longest,
            longest_start=longest_start, **words,
        )  # fmt: skip
        held = self._python, self._queue, self.run, call, memory, varying, sizes, slots
        return _made(again.infer_again, record, *held)
