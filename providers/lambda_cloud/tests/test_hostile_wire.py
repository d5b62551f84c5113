"""Broken, hostile and slow answers (F27, F28): no traceback, and no word believed too much."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Phase, Sighting
from kwanzaa_compute.drivers.http import NoAnswerError, StatusError
from kwanzaa_compute.errors import InvalidRequestError, ProviderError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.testing.loopback import Reply, Request, WireServer
from kwanzaa_compute.testing.malformed import malformed
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_lambda_cloud.driver import LambdaDriver
from kwanzaa_compute_lambda_cloud.meaning import NotAskedError
from kwanzaa_compute_lambda_cloud.simulator import LambdaSimulator

API = "/api/v1/"
LAUNCH = f"{API}instance-operations/launch"
HOSTILE = (
    "; rm -rf /",
    "$(touch /tmp/pwned)",
    "`id`",
    "quotes \" and ' and \\",
    "line\nbreaks\r\nand\ttabs",
    "ünï 🎉 \u202e \x1b[31m",
    "%s %(x)s {0} ${HOME}",
    "#cloud-config\nruncmd: [reboot]",
    "- !!python/object/apply:os.system ['id']",
    "",
    " ",
    "--",
    "x" * 20_000,
)


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[LambdaSimulator]:
    with LambdaSimulator(tmp_path / "machines", pace=0.0) as simulator:
        yield simulator


@pytest.fixture
def offer(driver: LambdaDriver) -> Offer:
    return next(o for o in driver.offers() if o.id == "gpu_1x_a10")


@pytest.fixture
def machine_id(driver: LambdaDriver, offer: Offer) -> str:
    """A machine of ours, up and with an address."""
    machine_id = driver.launch(sample_job(name="kwz-me-h1-1", argv=("sleep", "600")), offer)
    wait_until(lambda: driver.inspect(machine_id).phase is Phase.RUNNING)
    return machine_id


def wait_until(holds: Callable[[], bool]) -> None:
    clock = Clock()
    last = clock.monotonic() + 20
    while not holds():
        assert clock.monotonic() < last
        clock.sleep(0.02)


# -- malformed --------------------------------------------------------------------------------

CALLS = ("offers", "inspect", "fleet", "ssh", "terminate", "launch", "keys")


@pytest.mark.parametrize("what", CALLS)
def test_a_malformed_answer_is_an_error_with_a_meaning_or_makes_sense(
    simulator: LambdaSimulator, driver: LambdaDriver, offer: Offer, machine_id: str, what: str
) -> None:
    """Seven calls, 45 malformed answers each."""
    method, path, valid = exchange_of(simulator, driver, offer, machine_id, what)
    for broken in malformed(valid, seed=CALLS.index(what), count=45, statuses=(200, 200, 400, 502)):
        simulator.server.interrupt(
            method, re.escape(path), Reply(broken.status, broken.body, broken.headers)
        )
        driver._known_key = "" if what == "keys" else driver._known_key
        try:
            found = call(driver, offer, machine_id, what)
        except Exception as error:  # noqa: BLE001 -- any, if it has a meaning
            meaning = driver.classify(error)
            assert isinstance(meaning, ProviderError), broken.what
            assert meaning.message.isprintable(), broken.what
            assert len(meaning.message) < 400, broken.what
            assert "simulated" not in meaning.message  # the token in a machine's answer
            if what == "launch" and broken.status != 400:
                assert not meaning.nothing_was_created, broken.what
        else:
            makes_sense(found, what)


def exchange_of(
    simulator: LambdaSimulator, driver: LambdaDriver, offer: Offer, machine_id: str, what: str
) -> tuple[str, str, Any]:
    """The method, path and valid answer of the call that is to be disturbed."""
    if what == "keys":
        driver._known_key = ""
        call(driver, offer, machine_id, "launch")
        wanted = ("GET", f"{API}ssh-keys")
    else:
        call(driver, offer, machine_id, what)
        wanted = ("", "")
    for request, reply in reversed(simulator.server.exchanges):
        if wanted in {("", ""), (request.method, request.path)}:
            return request.method, request.path, reply.body
    raise AssertionError("nothing was asked")


def call(driver: LambdaDriver, offer: Offer, machine_id: str, what: str) -> Any:
    match what:
        case "offers":
            return list(driver.offers())
        case "inspect":
            return driver.inspect(machine_id)
        case "fleet":
            return list(driver.fleet())
        case "ssh":
            return driver.ssh(machine_id)
        case "terminate":
            return driver.terminate(machine_id)
        case _:
            return driver.launch(sample_job(name="kwz-me-h2-1", argv=("sleep", "600")), offer)


def makes_sense(found: Any, what: str) -> None:
    if what == "offers":
        for offer in found:
            price = offer.usd_per_hour
            assert price is None or (isinstance(price, Decimal) and 0 < price < 10**6)
    if what == "fleet":
        assert all(sighting.name.startswith("kwz-") for sighting in found)
    if what == "inspect":
        assert isinstance(found, Sighting)
        assert found.detail.isprintable()
    if what == "launch":
        assert isinstance(found, str)
        assert found


def test_no_malformed_answer_says_that_a_machine_is_gone(
    simulator: LambdaSimulator, driver: LambdaDriver, machine_id: str
) -> None:
    """GONE is Lambda's own word for it, and nothing else: not a proxy's 404, not an empty page."""
    for reply in (
        Reply(404, b"<html>404 Not Found</html>"),
        Reply(404, {"error": "not found"}),
        Reply(404, {"error": {"code": "global/not-found", "message": "no such route"}}),
        Reply(200, {"data": None}),
        Reply(204, b""),
    ):
        simulator.server.interrupt("GET", f"{API}instances/.*", reply)
        with pytest.raises(Exception):  # noqa: B017, PT011 -- each of its own kind
            driver.inspect(machine_id)
    assert driver.inspect(machine_id).phase is Phase.RUNNING


# -- hostile words ----------------------------------------------------------------------------

WRITES = (
    "import json, os, sys; "
    "json.dump([sys.argv[1:], dict(os.environ)], open(os.environ['TARGET'], 'w'))"
)


def test_f27_words_and_variables_reach_the_machine_as_they_are(
    driver: LambdaDriver, offer: Offer, tmp_path: Path
) -> None:
    target = tmp_path / "told.json"
    hostile = {f"V{number}": text for number, text in enumerate(HOSTILE)}
    secret = {f"S{number}": Secret(text) for number, text in enumerate(HOSTILE)}
    job = sample_job(
        name="kwz-me-h3-1",
        argv=(sys.executable, "-c", WRITES, *HOSTILE),
        env={**hostile, "TARGET": str(target)},
        secrets=secret,
    )
    driver.launch(job, offer)
    wait_until(lambda: target.exists() and target.read_text().endswith("]"))
    words, environment = json.loads(target.read_text())
    assert words == list(HOSTILE)
    told = {name: environment[name] for name in (*hostile, *secret)}
    assert told == {**hostile, **{name: value.reveal() for name, value in secret.items()}}
    assert not Path("/tmp/pwned").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"argv": ("python3", "a\0b")},
        {"argv": ()},
        {"env": {"A=B": "c"}},
        {"env": {"A": "half a pair \ud83d"}},
        {"argv": ("python3", "x" * 1_000_000)},
        {"name": "kwz-" + "x" * 61},
    ],
)
def test_f27_what_no_machine_can_be_told_is_refused_before_anything_is_asked(
    simulator: LambdaSimulator, driver: LambdaDriver, offer: Offer, changes: dict[str, Any]
) -> None:
    with pytest.raises(NotAskedError) as caught:
        driver.launch(replace(sample_job(name="kwz-me-h4-1"), **changes), offer)
    meaning = driver.classify(caught.value)
    assert isinstance(meaning, InvalidRequestError)
    assert meaning.nothing_was_created
    assert LAUNCH not in [request.path for request, _ in simulator.server.exchanges]


@pytest.mark.parametrize(
    "address", ["-oProxyCommand=id", "host.invalid", "127.0.0.1 -v", "", "127.0.0.1\n"]
)
def test_f27_an_address_that_is_none_is_not_connected_to(
    simulator: LambdaSimulator, driver: LambdaDriver, machine_id: str, address: str
) -> None:
    def lies(request: Request) -> Reply:
        reply = simulator.server.answer(request)
        assert isinstance(reply.body, dict)
        return Reply(200, {"data": {**reply.body["data"], "ip": address}})

    simulator.server.interrupt("GET", f"{API}instances/.*", lies)
    assert driver.ssh(machine_id) is None


def test_a_machine_of_somebody_elses_is_none_of_ours(
    simulator: LambdaSimulator, driver: LambdaDriver, offer: Offer
) -> None:
    driver.launch(sample_job(name="kwz-me-h5-1", argv=("sleep", "600")), offer)
    (machine,) = simulator.cloud.sim.machines.values()
    machine.name = "renamed by hand"
    assert [seen.name for seen in driver.fleet()] == ["kwz-me-h5-1"]  # its tag still says so
    machine.command = replace(machine.command, extra={})  # type: ignore[type-var]
    assert list(driver.fleet()) == []


# -- a slow and a treacherous wire ------------------------------------------------------------


def driver_at(endpoint: str, home: Path, *, call_s: float = 1.0) -> LambdaDriver:
    environment = {
        "LAMBDA_API_KEY": "secret_canary",
        "KWANZAA_HOME": str(home),
        "KWANZAA_LAMBDA_PACE": "0",
    }
    return LambdaDriver(DriverContext(environment, Clock(), endpoint), call_s=call_s)


def test_f28_an_answer_that_comes_drop_by_drop_is_given_up(tmp_path: Path) -> None:
    def dribble() -> Iterator[bytes]:
        clock = Clock()
        for _ in range(100):
            yield b" "
            clock.sleep(0.1)

    with WireServer(lambda _: Reply(200, dribble())) as server:
        driver = driver_at(server.url, tmp_path)
        with pytest.raises(NoAnswerError, match="within 1 s") as caught:
            list(driver.fleet())
    assert not driver.classify(caught.value).nothing_was_created


def test_f28_a_redirect_is_not_followed_and_the_key_goes_to_nobody(tmp_path: Path) -> None:
    with WireServer(lambda _: Reply(200, {"data": []})) as thief:
        elsewhere = Reply(307, b"", {"Location": f"{thief.url}/api/v1/instances"})
        with WireServer(lambda _: elsewhere) as server:
            driver = driver_at(server.url, tmp_path)
            with pytest.raises(StatusError, match="307"):
                list(driver.fleet())
        assert thief.exchanges == []


def test_f3_where_nobody_listens_nothing_was_created(tmp_path: Path, offer: Offer) -> None:
    with WireServer(lambda _: Reply(200, {"data": []})) as server:
        gone = server.url
    driver = driver_at(gone, tmp_path)
    with pytest.raises(NotAskedError) as caught:
        driver.launch(sample_job(name="kwz-me-h6-1"), offer)
    assert driver.classify(caught.value).nothing_was_created
