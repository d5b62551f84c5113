"""Three hundred broken replies to each call: no traceback, nothing forgotten, nothing invented."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from kwanzaa_compute.drivers.contract import Phase, SSHAccess
from kwanzaa_compute.drivers.provider import Provider, RetryPolicy
from kwanzaa_compute.errors import InvalidRequestError, ProviderError, TransientError
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute.testing.loopback.wire import Reply, WireServer
from kwanzaa_compute.testing.malformed import Malformed, malformed
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_runpod.driver import RunPodDriver
from kwanzaa_compute_runpod.simulator import RunPodSimulator

COUNT = 300
STATUSES = (200, 200, 200, 201, 204, 400, 404, 500)


@pytest.fixture
def once(simulator: RunPodSimulator, provider: Provider) -> Provider:
    """A provider that asks once: a second try would meet a sound reply."""
    return Provider(provider.info, provider.driver, provider._clock, RetryPolicy(attempts=1))


def newest(server: WireServer, method: str, path: str) -> Any:
    """The newest sound reply to a request."""
    return next(
        reply.body
        for request, reply in reversed(server.exchanges)
        if (request.method, request.path) == (method, path)
    )


def outcomes(
    server: WireServer, where: tuple[str, str], valid: Any, call: Callable[[], Any]
) -> list[tuple[Malformed, Any]]:
    """Each broken reply and what came of it: a result, or an error that says something."""
    found: list[tuple[Malformed, Any]] = []
    for broken in malformed(valid, seed=len(where[1]), count=COUNT, statuses=STATUSES):
        server.interrupt(*where, Reply(broken.status, broken.body, broken.headers))
        found.append((broken, outcome(call)))
    errors = [came for _, came in found if isinstance(came, ProviderError)]
    assert [e for e in errors if not e.message.isprintable() or len(e.message) > 600] == []
    assert COUNT / 3 < len(errors) < COUNT
    return found


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ProviderError as error:  # any other is a traceback, and fails the test
        return error


def names_in(broken: Malformed) -> set[tuple[str, str]] | None:
    """The machines of ours that a reply holds, read without our driver; None: it cannot be read."""
    try:
        pods = json.loads(broken.body)["pods"]
        named = [(pod["id"], pod["name"]) for pod in pods]
        return {(i, n) for i, n in named if n.startswith("kwz-") and i}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def test_a_broken_catalogue_offers_nothing_absurd(
    simulator: RunPodSimulator, once: Provider
) -> None:
    once.offers()
    where = ("GET", "/v2/catalog/gpus")
    valid = newest(simulator.server, *where)
    for _, found in outcomes(simulator.server, where, valid, once.offers):
        for offer in () if isinstance(found, ProviderError) else found:
            assert offer.usd_per_hour is None or 0 < offer.usd_per_hour < Decimal(10_000)
            assert 0 <= offer.gpu.vram_gib < 2000
            assert offer.id


def test_a_broken_list_never_hides_a_machine(
    simulator: RunPodSimulator, harness: Harness, once: Provider
) -> None:
    """It is read whole, or not at all: a machine that it may have held is not taken for gone."""
    machine_id = harness.launch(harness.job("kwz-me-x1-1", 600))
    once.fleet()
    where = ("GET", "/v2/pods")
    valid = newest(simulator.server, *where)
    read = 0
    for broken, found in outcomes(simulator.server, where, valid, once.fleet):
        if isinstance(found, ProviderError):
            assert isinstance(found, TransientError | InvalidRequestError), broken.what
        else:
            assert {(seen.machine_id, seen.name) for seen in found} == names_in(broken), broken
            read += 1
    assert read > COUNT / 20
    assert machine_id in {seen.machine_id for seen in once.fleet()}


def test_a_broken_look_never_says_gone(
    simulator: RunPodSimulator, harness: Harness, once: Provider
) -> None:
    machine_id = harness.launch(harness.job("kwz-me-x2-1", 600))
    once.inspect(machine_id)
    path = f"/v2/pods/{machine_id}"
    valid = newest(simulator.server, "GET", path)
    gone = 0
    looked = outcomes(simulator.server, ("GET", path), valid, lambda: once.inspect(machine_id))
    for _, found in looked:
        if not isinstance(found, ProviderError):
            assert found.machine_id == machine_id
            gone += found.phase is Phase.GONE
    not_found = COUNT * STATUSES.count(404) / len(STATUSES)
    assert gone < not_found  # only a 404 that RunPod itself could have said


def test_a_broken_look_shows_no_way_in_that_is_none(
    simulator: RunPodSimulator, harness: Harness, once: Provider
) -> None:
    machine_id = harness.launch(harness.job("kwz-me-x4-1", 600))
    harness.until(lambda: once.ssh(machine_id) is not None, "it can be reached")
    path = f"/v2/pods/{machine_id}"
    valid = newest(simulator.server, "GET", path)
    looked = outcomes(simulator.server, ("GET", path), valid, lambda: once.ssh(machine_id))
    ways = [found for _, found in looked if isinstance(found, SSHAccess)]
    assert ways
    for way in ways:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.:-]*", way.host)
        assert 0 < way.port < 65536


def test_a_broken_create_names_a_machine_or_leaves_it_open(
    simulator: RunPodSimulator, once: Provider
) -> None:
    offer = once.offers()[0]
    once.launch(sample_job(name="kwz-me-x3-1"), offer)
    valid = newest(simulator.server, "POST", "/v2/pods")
    job = sample_job(name="kwz-me-x3-2")
    for _, found in outcomes(
        simulator.server, ("POST", "/v2/pods"), valid, lambda: once.launch(job, offer)
    ):
        if isinstance(found, ProviderError):
            refused = "(POST /v2/pods, 4" in found.message
            assert found.nothing_was_created == refused, found
            assert refused or isinstance(found, TransientError)
        else:
            assert isinstance(found, str)
            assert found
    assert len(simulator.cloud.sim.machines) == 1


def test_broken_logs_are_no_lines(
    simulator: RunPodSimulator, driver: RunPodDriver, once: Provider
) -> None:
    valid = {"ts": "2026-01-01T00:00:00Z", "source": "container", "line": "hello\nworld"}
    path = "/v2/pods/m-1/logs"
    found: list[str] = []
    for broken in malformed(valid, seed=5, count=COUNT):
        body = b"data: " + broken.body + b"\n\n"
        simulator.server.interrupt("GET", path, Reply(200, body, broken.headers))
        try:
            found += once.logs("m-1")
        except ProviderError:
            continue
    assert {"hello", "world"} <= set(found)
    assert not [line for line in found if "\n" in line]


@pytest.mark.parametrize(
    "entry",
    [None, [], 7, "kwz-me-x1-1", {}, {"id": "m-1"}, {"name": "kwz-a"}, {"id": 1, "name": 2}],
)
def test_a_list_with_something_else_in_it_is_not_read_at_all(
    simulator: RunPodSimulator, once: Provider, entry: Any
) -> None:
    """It may be a machine of ours."""
    simulator.server.interrupt("GET", "/v2/pods", Reply(200, {"pods": [entry]}))
    with pytest.raises(TransientError):
        once.fleet()


def test_a_page_that_names_itself_as_the_next_is_no_end(
    simulator: RunPodSimulator, once: Provider
) -> None:
    page = {"pods": [], "pagination": {"nextCursor": "p0", "hasNextPage": True}}
    for _ in range(2):
        simulator.server.interrupt("GET", "/v2/pods", Reply(200, page))
    with pytest.raises(TransientError, match="same page twice"):
        once.fleet()


@pytest.mark.parametrize(
    "pagination", [{"hasNextPage": True}, {"hasNextPage": True, "nextCursor": 7}, [], "more"]
)
def test_a_list_that_goes_on_without_saying_where_is_not_taken_for_whole(
    simulator: RunPodSimulator, once: Provider, pagination: Any
) -> None:
    reply = Reply(200, {"pods": [], "pagination": pagination})
    simulator.server.interrupt("GET", "/v2/pods", reply)
    with pytest.raises(TransientError):
        once.fleet()
