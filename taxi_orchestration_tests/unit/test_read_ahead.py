"""Items that a background thread produces before they are used."""

import threading
import time
from collections.abc import Iterator

import pytest

from taxi_orchestration.warehouse.read_ahead import read_ahead


def list_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "read-ahead"]


def test_the_items_keep_their_order_and_the_thread_ends_after_them() -> None:
    with read_ahead(iter(range(1000)), 2) as items:
        assert list(items) == list(range(1000))
    assert list_threads() == []


def test_an_empty_iterator_gives_no_items() -> None:
    with read_ahead(iter(()), 1) as items:
        assert list(items) == []


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_is_raised_unchanged_after_the_items_before_it(kind: type[BaseException]) -> None:
    error = kind("spoilt")

    def produce() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    seen: list[int] = []
    with pytest.raises(kind) as caught, read_ahead(produce(), 1) as items:
        seen.extend(items)
    assert caught.value is error
    assert list_threads() == []
    assert seen == [1, 2]


def test_items_before_an_error_are_read_before_it_is_raised() -> None:
    def produce() -> Iterator[int]:
        yield 1
        raise ValueError("spoilt")

    with read_ahead(produce(), 5) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="spoilt"):
            next(items)


def test_an_early_end_stops_the_producer_and_the_thread() -> None:
    produced: list[int] = []

    def produce_endlessly() -> Iterator[int]:
        while True:
            produced.append(len(produced))
            yield produced[-1]

    with read_ahead(produce_endlessly(), 2) as items:
        assert next(items) == 0
    assert list_threads() == []
    assert len(produced) <= 5


def test_an_error_in_the_block_passes_through_and_stops_the_thread() -> None:
    def use() -> None:
        with read_ahead(iter(range(10**9)), 2) as items:
            raise RuntimeError(f"mine, after {next(items)}")

    with pytest.raises(RuntimeError, match="mine, after 0"):
        use()
    assert list_threads() == []


def test_at_most_the_depth_and_one_more_item_are_produced_ahead() -> None:
    produced: list[int] = []

    def produce() -> Iterator[int]:
        for i in range(100):
            produced.append(i)
            yield i

    with read_ahead(produce(), 3) as items:
        next(items)
        time.sleep(0.3)
        assert len(produced) <= 1 + 3 + 1


def test_the_next_item_is_produced_while_this_one_is_used() -> None:
    is_second_produced = threading.Event()

    def produce() -> Iterator[int]:
        yield 1
        is_second_produced.set()
        yield 2

    with read_ahead(produce(), 1) as items:
        next(items)
        assert is_second_produced.wait(10)
