"""The worker behind a view: heard from at once, and left behind at once."""

import threading
from collections.abc import Callable

import pytest

from kwanzaa_compute.cli.feed import Feed
from kwanzaa_compute.clock import Clock


def test_everything_that_is_seen_arrives_in_order() -> None:
    def work(put: Callable[[int], None], _clock: Clock) -> None:
        for number in range(5):
            put(number)

    assert [item for item in Feed(work, Clock()).seen(5.0) if item is not None] == list(range(5))


def test_an_error_of_the_worker_is_raised_where_it_is_watched() -> None:
    def work(put: Callable[[int], None], _clock: Clock) -> None:
        put(1)
        raise ValueError("from the worker")

    feed = Feed(work, Clock())
    with pytest.raises(ValueError, match="from the worker"):
        list(feed.seen(5.0))


def test_time_that_passes_without_news_is_told() -> None:
    release = threading.Event()

    def work(_put: Callable[[int], None], _clock: Clock) -> None:
        release.wait(60)

    seen = Feed(work, Clock()).seen(0.01)
    assert next(seen) is None
    release.set()
    assert all(item is None for item in seen)


def test_a_worker_leaves_at_its_next_pause() -> None:
    cleaned = threading.Event()

    def work(_put: Callable[[int], None], clock: Clock) -> None:
        try:
            clock.sleep(3600.0)
        finally:
            cleaned.set()

    feed = Feed(work, Clock())
    assert feed.leave(60.0)
    assert cleaned.is_set()
    assert list(feed.seen(5.0)) == []


def test_a_worker_that_hangs_is_not_waited_for() -> None:
    release = threading.Event()

    def work(_put: Callable[[int], None], _clock: Clock) -> None:
        release.wait(60)

    feed = Feed(work, Clock())
    assert not feed.leave(0.01)
    release.set()
    assert feed.leave(60.0)
