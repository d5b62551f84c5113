"""Strays and a lost ledger on a cloud with a clock of its own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.compute.rebuilding import Rebuilt, enter, look_for_runs
from kwanzaa_compute.compute.strays import end_strays, find_strays
from kwanzaa_compute.errors import MayBeBillingError
from kwanzaa_compute.runs.records import AttemptState, RunState, Wish
from kwanzaa_compute.runs.run_file import run_json
from kwanzaa_compute.store import open_store
from kwanzaa_compute.testing.fakecloud import FakeCloud
from kwanzaa_compute.testing.plugin import compute_over
from kwanzaa_compute.testing.samples import sample_attempt, sample_job, sample_run
from kwanzaa_compute.testing.weather import Faults, Weather


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud(weather=Weather(ending_s=(5.0, 5.0)))


@pytest.fixture
def compute(cloud: FakeCloud, tmp_path: Path) -> Iterator[kc.Compute]:
    with compute_over(cloud, tmp_path / "home") as compute:
        yield compute


def rent(cloud: FakeCloud, name: str) -> str:
    offer = next(iter(cloud.offers()))
    return cloud.launch(sample_job(name=name, max_hours=9.0), offer)


def lose(compute: kc.Compute) -> None:
    """Empties the ledger, as if it had never been."""
    for table in ("deliveries", "notices", "events", "leases", "speeds", "attempts", "runs"):
        compute.ledger._db.execute(f"DELETE FROM {table}")


def add_run(compute: kc.Compute, **changes: object) -> kc.Run:
    url = compute.store_root(None) + "/runs/r1"
    run = sample_run(owner=compute.owner, store_url=url, created_at=compute.clock.now())
    compute.ledger.add_run(replace(run, **changes))  # type: ignore[arg-type]
    return compute.run("r1")


# -- machines without runs --------------------------------------------------------------------


def test_only_our_own_machines_are_strays_and_they_are_ended(
    compute: kc.Compute, cloud: FakeCloud
) -> None:
    ours = rent(cloud, f"kwz-{compute.owner}-old-1")
    theirs = [rent(cloud, name) for name in ("kwz-other-old-1", "web", f"kwz-{compute.owner}x-a-1")]
    found = find_strays(compute)
    assert [stray.machine_id for stray in found.strays] == [ours]
    end_strays(compute, found.strays)
    assert [machine.id for machine in cloud.billing] == theirs


def test_a_machine_of_an_open_attempt_is_no_stray(compute: kc.Compute, cloud: FakeCloud) -> None:
    add_run(compute).launch()
    assert len(cloud.billing) == 1
    assert find_strays(compute).strays == ()


def test_a_late_second_machine_of_a_closed_attempt_is_a_stray(
    compute: kc.Compute, cloud: FakeCloud
) -> None:
    run = add_run(compute)
    run.wait(poll_s=20)
    late = rent(cloud, run.attempts[-1].name)
    (stray,) = find_strays(compute).strays
    assert (stray.machine_id, stray.why) == (late, "attempt 1 of run r1 was closed")


def test_an_end_is_pursued_through_lies_and_errors(compute: kc.Compute, cloud: FakeCloud) -> None:
    rent(cloud, f"kwz-{compute.owner}-old-1")
    strays = find_strays(compute).strays
    cloud.sim.faults = Faults(terminate_lies=0.5, terminate_errors_before=0.3, list_errors=0.3)
    end_strays(compute, strays)
    assert cloud.billing == []


def test_an_end_that_never_comes_is_named(compute: kc.Compute, cloud: FakeCloud) -> None:
    machine = rent(cloud, f"kwz-{compute.owner}-old-1")
    cloud.sim.faults = Faults(terminate_lies=1.0)
    with pytest.raises(MayBeBillingError, match=f"machine {machine} .* on fake .*\\$0.70/h"):
        end_strays(compute, find_strays(compute).strays)


def test_an_error_while_asking_is_never_taken_for_absence(
    compute: kc.Compute, cloud: FakeCloud
) -> None:
    add_run(compute).wait(poll_s=20)
    machine = rent(cloud, f"kwz-{compute.owner}-old-1")
    strays = find_strays(compute).strays
    cloud.sim.faults = Faults(list_errors=1.0, terminate_lies=1.0)
    with pytest.raises(MayBeBillingError):
        end_strays(compute, strays)
    assert [m.id for m in cloud.billing] == [machine]
    assert "fake" in find_strays(compute).unasked


def test_runs_without_a_machine_or_a_watcher_are_named(
    compute: kc.Compute, cloud: FakeCloud
) -> None:
    run = add_run(compute)
    run.launch()
    cloud.sim.expire(cloud.billing[0])
    whys = [without.why for without in find_strays(compute).without]
    assert whys == ["its machine m-1 on fake is not to be seen", "nobody watches it"]


# -- a lost ledger ----------------------------------------------------------------------------


def rebuild(compute: kc.Compute) -> Rebuilt:
    rebuilt = look_for_runs(compute)
    enter(compute, rebuilt)
    return rebuilt


def test_a_run_at_work_is_taken_up_again_and_keeps_cap_and_costs(
    compute: kc.Compute, cloud: FakeCloud
) -> None:
    run = add_run(compute)
    run.launch()
    cloud.clock.sleep(200)
    before, costs = run.record, run.receipt.usd
    lose(compute)
    rebuild(compute)
    assert run.record == before
    assert run.receipt.usd == costs > 0
    assert run.wait(poll_s=20).state is RunState.DONE
    assert len(cloud.sim.machines) == 1
    assert cloud.billing == []


def test_a_run_whose_machine_is_gone_is_not_relaunched_unasked(
    compute: kc.Compute, cloud: FakeCloud
) -> None:
    run = add_run(compute)
    run.launch()
    cloud.sim.expire(cloud.billing[0])
    lose(compute)
    rebuild(compute)
    assert run.record.wish is Wish.STOP
    assert run.wait(poll_s=20).state is RunState.STOPPED
    assert len(cloud.sim.machines) == 1
    assert compute.resume("r1").wait(poll_s=20).state is RunState.DONE


def test_a_provider_that_cannot_be_asked_may_have_the_machine(
    compute: kc.Compute, cloud: FakeCloud
) -> None:
    run = add_run(compute)
    run.launch()
    lose(compute)
    cloud.sim.faults = Faults(list_errors=1.0)
    rebuild(compute)
    assert (run.record.wish, run.attempts[0].state) == (Wish.RUN, AttemptState.INTENDED)


def test_a_run_that_had_ended_comes_back_as_it_had_ended(compute: kc.Compute) -> None:
    run = add_run(compute)
    run.wait(poll_s=20)
    before = run.record, run.attempts
    lose(compute)
    rebuild(compute)
    assert (run.record, run.attempts) == before


def test_a_run_that_was_never_launched_comes_back_stopped(compute: kc.Compute) -> None:
    run = add_run(compute)
    store = open_store(run.record.store_url)
    store.put("run.json", run_json(run.record, []))
    lose(compute)
    rebuild(compute)
    assert run.state is RunState.STOPPED


def test_what_is_somebody_elses_or_makes_no_sense_is_left_out(compute: kc.Compute) -> None:
    root = compute.store_root(None)
    store, own = open_store(root), compute.owner
    record = replace(sample_run(), owner=own, store_url=f"{root}/runs/r1")
    attempt = sample_attempt(name=f"kwz-{own}-r1-1")
    files = {
        "r1": run_json(record, [attempt]),
        "r2": run_json(record, []),
        "r3": run_json(replace(record, id="r3", store_url=f"{root}/runs/r3", owner="other"), []),
        "r4": run_json(replace(record, id="r4", store_url=f"{root}/runs/r4"), [attempt]),
        "r5": run_json(
            replace(record, id="r5", store_url=f"{root}/runs/r5", max_hours=float("inf")), []
        ),
        "r6": b"{}",
        "r7": b"\xff",
    }
    for name, data in files.items():
        store.put(f"runs/{name}/run.json", data)
    store.put("runs/r8/input/config.json", b"{}")
    rebuilt = look_for_runs(compute)
    assert [run.id for run, _ in rebuilt.runs] == ["r1"]
    assert sorted(rebuilt.skipped) == [f"runs/r{n}" for n in (2, 3, 4, 5, 6, 7, 8)]
    assert "other's" in rebuilt.skipped["runs/r3"]


def test_a_lost_home_takes_up_the_only_owner_in_the_store(
    compute: kc.Compute, cloud: FakeCloud, tmp_path: Path
) -> None:
    run = add_run(compute)
    run.launch()
    with compute_over(cloud, tmp_path / "other") as again:
        again._store = compute.store_root(None)
        rebuild(again)
        assert again.owner == compute.owner
        assert again.run("r1").wait(poll_s=20).state is RunState.DONE
    assert cloud.billing == []


def test_a_ledger_that_is_there_is_not_changed_by_what_it_knows(compute: kc.Compute) -> None:
    run = add_run(compute)
    run.wait(poll_s=20)
    assert look_for_runs(compute).runs == ()


# -- watching ---------------------------------------------------------------------------------


def test_one_look_at_many_runs_asks_the_provider_for_one_list(
    compute: kc.Compute, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = compute.store_root(None)
    for n in range(5):
        run = sample_run(id=f"r{n}", owner=compute.owner, created_at=compute.clock.now())
        compute.ledger.add_run(replace(run, store_url=f"{root}/runs/r{n}"))
    assert len(compute.watch_once()) == 5
    asked: list[str] = []
    fleet, inspect = cloud.fleet, cloud.inspect
    monkeypatch.setattr(cloud, "fleet", lambda: asked.append("fleet") or fleet())
    monkeypatch.setattr(cloud, "inspect", lambda m: asked.append(m) or inspect(m))
    cloud.clock.sleep(60)
    assert len(compute.watch_once()) == 5
    assert asked == ["fleet"]
    assert {compute.ledger.watcher(f"r{n}") for n in range(5)} == {None}
