"""`FakeCloud` and the model under it do what their parameters say, and nothing else."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from kwanzaa_compute.drivers.contract import Phase
from kwanzaa_compute.errors import (
    CapacityError,
    InvalidRequestError,
    StoreExistsError,
    StoreMissingError,
    TransientError,
)
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute.store import RunFolder, StopRequest, Store, open_store
from kwanzaa_compute.testing import FakeCloud, Faults, MemoryStore, Trace, Training, Weather
from kwanzaa_compute.testing.samples import sample_job, sample_offer

SPOT = sample_offer(id="spot", spot=True, disk_usd_per_gib_hour=Decimal("0.001"), disk_gib=100.0)
FIRM = sample_offer(id="firm")


def cloud_of(**more: object) -> FakeCloud:
    return FakeCloud(offers=[SPOT, FIRM], **more)  # type: ignore[arg-type]


def launch(cloud: FakeCloud, offer: Offer = SPOT, name: str = "kwz-me-r1-1") -> str:
    return cloud.provider().launch(sample_job(name=name), offer)


def test_nothing_goes_wrong_unless_it_is_told_to() -> None:
    cloud = cloud_of()
    machine_id = launch(cloud)
    assert cloud.inspect(machine_id).phase is Phase.STARTING
    cloud.clock.sleep(30)
    assert cloud.inspect(machine_id).phase is Phase.RUNNING
    cloud.clock.sleep(1000)
    assert cloud.inspect(machine_id).phase is Phase.EXITED
    assert RunFolder(cloud.stores.open("memory://run")).done() is not None
    cloud.terminate(machine_id)
    assert cloud.inspect(machine_id).phase is Phase.GONE


def test_what_is_sold_out_says_so_and_creates_nothing() -> None:
    cloud = cloud_of(sold_out=["spot"])
    stock = {o.id: o.availability for o in cloud.offers()}
    assert stock == {"spot": Availability.SOLD_OUT, "firm": Availability.AVAILABLE}
    with pytest.raises(CapacityError) as caught:
        launch(cloud)
    assert caught.value.nothing_was_created
    assert cloud.billing == []


def test_an_offer_that_is_not_sold_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequestError):
        launch(cloud_of(), sample_offer(id="unheard of"))


def test_a_slow_boot_takes_as_long_as_it_was_told_to() -> None:
    cloud = cloud_of(slow_boot=1000.0)
    machine_id = launch(cloud)
    cloud.clock.sleep(999)
    assert cloud.inspect(machine_id).phase is Phase.STARTING
    cloud.clock.sleep(1)
    assert cloud.inspect(machine_id).phase is Phase.RUNNING


def test_only_spot_machines_are_taken_back() -> None:
    cloud = cloud_of(preempt_at=(100,))
    spot, firm = launch(cloud), launch(cloud, FIRM, "kwz-me-r2-1")
    cloud.clock.sleep(100)
    assert cloud.inspect(spot).phase is Phase.GONE
    assert cloud.inspect(firm).phase is Phase.RUNNING


def test_a_trace_says_when_there_are_spot_machines() -> None:
    cloud = cloud_of(trace=Trace([True, True, False], step_s=100.0))
    machine_id = launch(cloud)
    cloud.clock.sleep(200)
    assert cloud.inspect(machine_id).phase is Phase.GONE
    with pytest.raises(CapacityError):
        launch(cloud, name="kwz-me-r1-2")
    cloud.clock.sleep(100)
    assert launch(cloud, name="kwz-me-r1-3")


def test_a_trace_without_outages_takes_nothing_back() -> None:
    trace = Trace([True] * 5)
    assert trace.next_outage(0.0) is None
    assert Trace([True, False]).next_outage(61.0) == 61.0
    assert Trace([False, True]).next_outage(61.0) == 120.0


def test_a_preempted_machine_that_stays_bills_its_disk_only() -> None:
    cloud = cloud_of(preempt_at=(3600,), weather=Weather(preempted_stays=1.0))
    machine_id = launch(cloud)
    cloud.clock.sleep(7200)
    seen = cloud.inspect(machine_id)
    assert (seen.phase, seen.usd_per_hour) == (Phase.PREEMPTED, Decimal("0.1"))
    assert cloud.billed_usd == Decimal("1.00") + Decimal("0.10")


def test_time_is_billed_in_steps_and_no_less_than_the_minimum() -> None:
    offer = sample_offer(id="spot", billing_step_s=600, minimum_s=1200)
    cloud = FakeCloud(offers=[offer])
    machine_id = launch(cloud, offer)
    cloud.clock.sleep(60)
    assert cloud.billed_usd == Decimal(1200) / 3600
    cloud.clock.sleep(1200)
    cloud.terminate(machine_id)
    cloud.clock.sleep(1e6)
    assert cloud.billed_usd == Decimal(1800) / 3600


def test_prices_move_every_hour_and_a_machine_keeps_its_own() -> None:
    cloud = cloud_of(weather=Weather(price_moves=0.5))
    machine_id = launch(cloud)
    seen = set()
    for _ in range(10):
        seen.add(next(iter(cloud.offers())).usd_per_hour)
        cloud.clock.sleep(3600)
    assert len(seen) == 10
    assert all(Decimal("0.5") <= price <= Decimal("1.5001") for price in seen if price)
    assert cloud.sim.machines[machine_id].usd_per_hour == SPOT.usd_per_hour


@pytest.mark.parametrize(
    ("faults", "machines", "error"),
    [
        (Faults(create_errors_before=1.0), 0, TransientError),
        (Faults(create_errors_after=1.0), 1, TransientError),
        (Faults(create_times_out_before=1.0), 0, TransientError),
        (Faults(create_times_out_after=1.0), 1, TransientError),
        (Faults(create_lands_late=1.0), 0, TransientError),
        (Faults(rate_limited=1.0), 0, TransientError),
        (Faults(sold_out=1.0), 0, CapacityError),
        (Faults(create_twice=1.0), 2, None),
    ],
)
def test_a_create_goes_wrong_as_it_was_told_to(
    faults: Faults, machines: int, error: type[Exception] | None
) -> None:
    cloud = cloud_of(faults=faults, weather=Weather(list_lag_s=20.0))
    if error is None:
        launch(cloud)
    else:
        with pytest.raises(error):
            launch(cloud)
    assert len(cloud.billing) == machines
    cloud.clock.sleep(60)
    assert len(cloud.billing) == machines + bool(faults.create_lands_late)


def test_a_terminate_that_lies_ends_nothing() -> None:
    cloud = cloud_of(faults=Faults(terminate_lies=1.0))
    machine_id = launch(cloud)
    cloud.provider().terminate(machine_id)
    assert [m.id for m in cloud.billing] == [machine_id]


def test_the_trainer_stops_when_it_is_asked_to_and_goes_on_from_there() -> None:
    cloud = cloud_of(training=Training(steps=1000))
    folder = RunFolder(cloud.stores.open("memory://run"))
    launch(cloud)
    cloud.clock.sleep(300)
    folder.put_stop_request(StopRequest(1, "enough"))
    cloud.clock.sleep(300)
    failure, beat = folder.failure(1), folder.heartbeat(1)
    assert failure is not None
    assert failure.stopped
    assert beat is not None
    assert beat.checkpoint is not None
    cloud.provider().launch(sample_job(name="two", env={"KWANZAA_ATTEMPT": "2"}), FIRM)
    cloud.clock.sleep(100)
    assert cloud.trainers["m-2"].began is not None
    assert cloud.trainers["m-2"].began[1] == beat.step


def test_a_damaged_checkpoint_falls_back_to_the_sound_one_before_it() -> None:
    cloud = cloud_of(training=Training(steps=1000))
    launch(cloud)
    cloud.clock.sleep(600)
    cloud.sim.preempt(cloud.sim.machines["m-1"])
    saved = cloud.trainers["m-1"].saved
    store = cloud.stores.open("memory://run")
    store.put(f"checkpoints/ckpt-{saved[-1][1]}-1/state.safetensors", b"torn")
    cloud.provider().launch(sample_job(name="two"), FIRM)
    cloud.clock.sleep(60)
    assert cloud.trainers["m-2"].began is not None
    assert cloud.trainers["m-2"].began[1] == saved[-2][1] > 0


def test_a_time_limit_ends_machine_and_bill() -> None:
    cloud = cloud_of(training=Training(steps=10**6))
    launch(cloud)
    cloud.clock.sleep(30 + 3600)
    assert cloud.billing == []


def test_the_same_seed_has_the_same_log() -> None:
    def log(seed: int) -> list[str]:
        weather = Weather(latency_s=(0.1, 2), boot_s=(10, 90), preempted_every_s=600)
        cloud = cloud_of(seed=seed, weather=weather)
        launch(cloud)
        cloud.clock.sleep(5000)
        return cloud.sim.log

    assert log(1) == log(1)
    assert log(1) != log(2)


# -- the store in memory keeps the promises of the real ones ----------------------------------

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _folder: MemoryStore(),
    "file": lambda folder: open_store((folder / "store").as_uri()),
}


@pytest.mark.parametrize("kind", STORES)
def test_a_store_keeps_its_promises(kind: str, tmp_path: Path) -> None:
    store = STORES[kind](tmp_path)
    store.put("a/b.json", b"1")
    store.put("a/b.json", b"2")
    store.create("a/c.json", b"33")
    with pytest.raises(StoreExistsError):
        store.create("a/c.json", b"4")
    with pytest.raises(StoreMissingError):
        store.get("nothing")
    store.put("ab/d", b"")
    assert store.get("a/b.json") == b"2"
    assert [(o.path, o.size) for o in store.list("a")] == [("a/b.json", 1), ("a/c.json", 2)]
    assert len(store.list()) == 3
    store.delete("a/b.json")
    store.delete("a/b.json")
    assert not store.exists("a/b.json")
    (tmp_path / "source").write_bytes(b"bytes")
    digest = store.upload(tmp_path / "source", "up")
    assert store.download("up", tmp_path / "deep" / "target") == digest
    assert (tmp_path / "deep" / "target").read_bytes() == b"bytes"
