"""Producing the next items in another thread: decoding and encoding run beside COPY."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")


@contextmanager
def read_ahead(items: Iterator[Item], depth: int) -> Iterator[Iterator[Item]]:
    """Yield the items, produced in another thread at most `depth` ahead.

    An error of `items` is raised after the items before it. The thread ends with the block.
    """
    ready: queue.Queue[tuple[Item | None, BaseException | None, bool]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: Item | None, error: BaseException | None, last: bool) -> None:
        while not stopped.is_set():
            try:
                return ready.put((item, error, last), timeout=0.1)
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put(item, None, False)
                if stopped.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised again in the consuming thread
            put(None, error, True)
        else:
            put(None, None, True)

    def consume() -> Iterator[Item]:
        while True:
            item, error, last = ready.get()
            if error is not None:
                raise error
            if last:
                return
            yield item  # type: ignore[misc]

    thread = threading.Thread(target=produce, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        stopped.set()
        thread.join()
