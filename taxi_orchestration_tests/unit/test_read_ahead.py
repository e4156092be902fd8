"""Items made ahead in a thread of their own."""

import threading
import time
from collections.abc import Iterator

import pytest

from taxi_orchestration.warehouse.read_ahead import read_ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "read-ahead"]


def test_the_items_come_in_their_order_and_the_thread_ends_with_them() -> None:
    with read_ahead(iter(range(1000)), 2) as items:
        assert list(items) == list(range(1000))
    assert threads() == []


def test_no_items_are_no_items() -> None:
    with read_ahead(iter(()), 1) as items:
        assert list(items) == []


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_comes_after_the_items_before_it_as_it_was_raised(kind: type[BaseException]) -> None:
    error = kind("spoilt")

    def made() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    seen: list[int] = []
    with pytest.raises(kind) as caught, read_ahead(made(), 1) as items:
        seen.extend(items)
    assert caught.value is error
    assert threads() == []
    assert seen == [] or seen == [1, 2]


def test_items_before_an_error_are_seen_before_it() -> None:
    def made() -> Iterator[int]:
        yield 1
        raise ValueError("spoilt")

    with read_ahead(made(), 5) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="spoilt"):
            next(items)


def test_an_early_end_stops_the_making_and_the_thread() -> None:
    made: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            made.append(len(made))
            yield made[-1]

    with read_ahead(endless(), 2) as items:
        assert next(items) == 0
    assert threads() == []
    assert len(made) <= 5


def test_an_error_in_the_block_passes_through_and_stops_the_thread() -> None:
    def use() -> None:
        with read_ahead(iter(range(10**9)), 2) as items:
            raise RuntimeError(f"mine, after {next(items)}")

    with pytest.raises(RuntimeError, match="mine, after 0"):
        use()
    assert threads() == []


def test_not_more_than_the_depth_and_the_one_in_the_making_are_ahead() -> None:
    made: list[int] = []

    def counted() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    with read_ahead(counted(), 3) as items:
        next(items)
        time.sleep(0.3)
        assert len(made) <= 1 + 3 + 1


def test_the_next_item_is_made_while_this_one_is_used() -> None:
    second_made = threading.Event()

    def made() -> Iterator[int]:
        yield 1
        second_made.set()
        yield 2

    with read_ahead(made(), 1) as items:
        next(items)
        assert second_made.wait(10)
