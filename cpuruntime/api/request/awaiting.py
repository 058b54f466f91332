"""Waiting in an event loop for the end of an inference."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any


def wait_in_loop(
    is_over: Callable[[], bool], notify: Callable[[Callable[[], None]], None], cancel: Callable[[], None]
) -> Generator[Any, None, None]:
    """What `__await__` yields from: waits in the running event loop of asyncio, without blocking it, until `is_over`.

    Args:
        is_over: whether it is over.
        notify: has a function called, from any thread, when it is over or if it is already.
        cancel: asks that it be over soon. When the waiting task is cancelled this is done, and the wait goes on: once
            it has ended nothing is in use any more. Cancelled again the task ends at once.
    """
    from asyncio import CancelledError, get_running_loop

    loop = get_running_loop()
    cancelled: CancelledError | None = None
    while not is_over():
        future = loop.create_future()

        def wake(future: Any = future) -> None:
            if not future.done():
                future.set_result(None)

        def wake_soon(wake: Callable[[], None] = wake) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(wake)

        notify(wake_soon)
        try:
            yield from future
        except CancelledError as error:
            if cancelled is not None:
                raise
            cancelled = error
            cancel()
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled  # its traceback refers to this frame
