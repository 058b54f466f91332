"""The weight store: each constant is packed once, found by its content, and given back with the last program."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from cpuruntime.host.memory import ALIGNMENT, HUGE_PAGE, allocate
from cpuruntime.program.plan.storage import Address
from cpuruntime.program.plan.weights import SMALL, WeightStore


def contents(address: Address, dtype: type, count: int) -> np.ndarray:
    """What lies at the address of a packed constant."""
    memory = address.storage.owner
    assert isinstance(memory, np.ndarray)
    return memory[address.offset :].view(dtype)[:count]


def test_a_key_is_packed_once() -> None:
    store = WeightStore()
    calls = []

    def fill(memory: np.ndarray) -> None:
        calls.append(memory.size)
        memory[:] = 7

    first, second = store.pack("key", 100, fill), store.pack("key", 100, fill)
    assert calls == [100]
    assert first.storage is second.storage
    assert contents(first, np.uint8, 100).tolist() == [7] * 100
    assert store.nbytes == 100


def test_memory_begins_zeroed_and_aligned() -> None:
    for size in (1, 100, HUGE_PAGE + 1):
        memory = allocate(size)
        assert memory.ctypes.data % ALIGNMENT == 0
        assert memory.size >= size
        assert not memory.any()


def test_a_constant_is_copied_row_by_row() -> None:
    store = WeightStore()
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    address = store.constant(store.identity(array), array)
    assert address.storage.size == array.nbytes
    assert contents(address, np.float32, 12).tolist() == array.reshape(-1).tolist()


def test_what_is_packed_goes_with_its_last_address() -> None:
    store = WeightStore()
    first = store.pack("a", 1000, lambda memory: None)
    second = store.pack("b", 500, lambda memory: None)
    also_second = Address(second.storage, 64)
    del first, second
    gc.collect()
    assert store.nbytes == 500
    del also_second
    gc.collect()
    assert store.nbytes == 0


@pytest.mark.parametrize("size", [10, 2 * SMALL])
def test_equal_arrays_have_one_identity(size: int) -> None:
    store = WeightStore()
    array = np.arange(size, dtype=np.float32)
    assert store.identity(array) == store.identity(array.copy()) == store.identity(np.repeat(array, 2)[::2])
    store.forget_sources()
    assert store.identity(array.copy()) == store.identity(array)


def test_different_arrays_have_different_identities() -> None:
    store = WeightStore()
    array = np.zeros((2, 6), np.float32)
    others = [array.reshape(3, 4), array.view(np.int32), np.zeros((2, 7), np.float32), array + 1, array.T]
    identities = {store.identity(each) for each in (array, *others)}
    assert len(identities) == 6


def test_large_arrays_of_a_model_planned_once_are_not_read() -> None:
    store = WeightStore(planned_once=True)
    array = np.zeros(SMALL, np.float32)
    assert store.identity(array) == store.identity(array)
    assert store.identity(array) != store.identity(array.copy())
    known = store.identity(array)
    store.release(array)
    assert store.identity(array) != known


def test_large_constants_are_filled_together_at_the_end() -> None:
    store, threads = WeightStore(), set()

    def fill(array: np.ndarray) -> None:
        threads.add(threading.get_ident())
        array[:] = 7

    with store.packing(2):
        small, large = (store.pack(size, size, fill) for size in (8, 2 * SMALL))
        assert store.pack(2 * SMALL, 2 * SMALL, fill).storage is large.storage
        assert [address.storage.owner.any() for address in (small, large)] == [True, False]
        assert threads == {threading.get_ident()}
    assert large.storage.owner.all()
    assert len(threads) == 2


def test_large_constants_are_filled_while_the_rest_is_planned() -> None:
    store, filled, checked = WeightStore(), threading.Event(), []
    with store.packing(1, checked.append):
        large = store.pack("key", 2 * SMALL, lambda array: (array.fill(7), filled.set())[0])
        assert not large.storage.owner.any()
        store.go_on(["kernel"])
        assert filled.wait(60)
        store.go_on(["another"])
    assert large.storage.owner.all()
    assert checked == [["kernel"]]


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("is_planned", [False, True])
def test_constants_that_were_not_filled_are_filled_by_the_next(is_planned: bool, goes_on: bool) -> None:
    """Whether planning fails or filling does, and who still holds the address."""
    store = WeightStore()

    def fail(array: np.ndarray) -> None:
        raise MemoryError("no room")

    def plan() -> None:
        with store.packing(1, lambda kernels: None):
            held.extend(store.pack(key, 2 * SMALL, fail) for key in "ab")
            if goes_on:
                store.go_on([])
            if not is_planned:
                raise MemoryError("no room")

    held: list[Address] = []
    with pytest.raises(MemoryError, match="no room"):
        plan()
    with store.packing(1):
        filled = store.pack("b", 2 * SMALL, lambda array: array.fill(1))
    assert filled.storage is not held[1].storage
    assert filled.storage.owner.all()
