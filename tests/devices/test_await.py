"""Requests in an event loop: `await`, errors, cancellation, and that nothing blocks or polls."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from support.fake_device import FakeModel, Gate, compile_fake
from support.onnx_models import chain, one_input

import cpuruntime as ov
from cpuruntime.testing.probes import wait_over

Gated = tuple[ov.CompiledModel, FakeModel]

ROW = np.arange(4, dtype=np.float32)[None]
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(scope="module")
def long_model() -> ov.CompiledModel:
    """One of about a second, on one stream."""
    return ov.Core().compile_model(chain(400, 512), "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1})


async def result(request: ov.InferRequest) -> Any:
    """What awaiting it gives."""
    return await request


def test_results(device: str) -> None:
    compiled = ov.Core().compile_model(one_input(), device)

    async def main() -> None:
        requests = [compiled.create_infer_request() for _ in range(5)]
        for turn in range(20):
            for i, request in enumerate(requests):
                request.start_async(X + turn + i)
            outputs = await asyncio.gather(*map(result, requests))
            for i, output in enumerate(outputs):
                np.testing.assert_array_equal(output[0], -(X + turn + i))
        np.testing.assert_array_equal((await requests[0])[0], -(X + 19))  # again, as wait()

    asyncio.run(main())


def test_what_was_never_started() -> None:
    async def main() -> None:
        assert (await compile_fake()[0].create_infer_request())[0].shape == (1, 4)

    asyncio.run(main())


def test_the_loop_goes_on_meanwhile(gated: Gated, gate: Gate) -> None:
    request = gated[0].create_infer_request()

    async def main() -> None:
        request.start_async(ROW)
        task = asyncio.ensure_future(result(request))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done()
        gate.open()
        np.testing.assert_array_equal((await task)[0], ROW)

    asyncio.run(main())


def test_it_waits_for_the_callback(device: str) -> None:
    request = ov.Core().compile_model(one_input(), device).create_infer_request()
    release, seen = threading.Event(), []

    def callback(userdata: Any) -> None:
        assert release.wait(30)
        seen.append(userdata)

    async def main() -> None:
        request.set_callback(callback, 7)
        request.start_async(X)
        asyncio.get_running_loop().call_later(0.01, release.set)
        await request
        assert seen == [7]

    asyncio.run(main())


@pytest.mark.parametrize("callback", [False, True])
def test_errors_have_their_type(callback: bool) -> None:
    compiled, model = compile_fake()

    def fail() -> None:
        raise ov.ModelError("Conv 'c' cannot.")

    async def main() -> None:
        request = compiled.create_infer_request()
        if callback:
            request.set_callback(print, None)
        model.work = fail
        request.start_async(ROW)
        for _ in range(2):
            with pytest.raises(ov.ModelError, match="Conv 'c' cannot"):
                await request
        model.work = lambda: None
        request.start_async(ROW)
        np.testing.assert_array_equal((await request)[0], ROW)

    asyncio.run(main())


@pytest.mark.parametrize("callback", [False, True])
def test_errors_on_streams(long_model: ov.CompiledModel, callback: bool) -> None:
    async def main() -> None:
        request = long_model.create_infer_request()
        if callback:
            request.set_callback(lambda _: None, None)
        request.start_async(deadline_ms=5)
        with pytest.raises(ov.DeadlineExceededError):
            await request
        request.start_async()
        asyncio.get_running_loop().call_later(0.005, request.cancel)
        with pytest.raises(ov.CancelledError):
            await request

    asyncio.run(main())


@pytest.mark.parametrize("callback", [False, True])
@pytest.mark.parametrize("queued", [False, True])
def test_cancelling_the_task_cancels_the_inference(long_model: ov.CompiledModel, callback: bool, queued: bool) -> None:
    blocker = long_model.create_infer_request()

    async def main() -> None:
        request = long_model.create_infer_request()
        seen: list[Any] = []
        if callback:
            request.set_callback(seen.append, "told")
        if queued:
            blocker.start_async()
        request.start_async()
        task = asyncio.ensure_future(result(request))
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not request.is_busy()
        assert seen == ["told"] * callback
        with pytest.raises(ov.CancelledError):
            request.wait()

    asyncio.run(main())
    blocker.cancel()
    wait_over(blocker)


def test_a_timeout_cancels_the_inference(long_model: ov.CompiledModel) -> None:
    async def main() -> None:
        request = long_model.create_infer_request()
        request.start_async()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(result(request), 0.01)
        assert not request.is_busy()

    asyncio.run(main())


def test_cancelled_twice_the_task_ends_at_once(gated: Gated, gate: Gate) -> None:
    async def main() -> None:
        request = gated[0].create_infer_request()
        request.start_async(ROW)
        gate.wait_entered()
        task = asyncio.ensure_future(result(request))
        await asyncio.sleep(0)
        for _ in range(2):
            assert not task.done()
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert task.cancelled()
        assert request.is_busy()
        gate.open()

    asyncio.run(main())


def test_several_tasks_wait_for_one_request(long_model: ov.CompiledModel) -> None:
    async def main() -> None:
        request = long_model.create_infer_request()
        request.start_async(deadline_ms=20)
        errors = await asyncio.gather(*(result(request) for _ in range(4)), return_exceptions=True)
        assert [type(error) for error in errors] == [ov.DeadlineExceededError] * 4

    asyncio.run(main())


def test_a_loop_that_is_closed_meanwhile(long_model: ov.CompiledModel) -> None:
    request = long_model.create_infer_request()
    request.start_async()

    loop = asyncio.new_event_loop()
    task = loop.create_task(result(request))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    request.cancel()
    with pytest.raises(ov.CancelledError):
        request.wait()
