"""What happens to a run is told, once, and telling it never harms the run."""

import json
import sqlite3
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.compute import channels
from kwanzaa_compute.compute.channels import Command, Message, Webhook, channels_in
from kwanzaa_compute.compute.checks import State
from kwanzaa_compute.compute.diagnosis import diagnose
from kwanzaa_compute.compute.notifying import Notifier, is_unconfirmed, stalled_s
from kwanzaa_compute.config.redaction import redacted
from kwanzaa_compute.runs.outbox import CLAIM_S, MOST_TRIES
from kwanzaa_compute.runs.records import AttemptState
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.store import Heartbeat
from kwanzaa_compute.testing import FakeCloud, Faults, Training
from kwanzaa_compute.testing.plugin import compute_over

QUICKSTART = Path(__file__).parents[3] / "examples/quickstart/training.yaml"
Options = Callable[..., kc.Options]


def environment(hook: object) -> dict[str, str]:
    return {"KWANZAA_WEBHOOK_URL": hook.url, "HF_TOKEN": "hf_0123456789abcdefghij"}


def test_the_end_of_a_run_is_told_with_its_cost(
    hook: object, options: Options, tmp_path: Path
) -> None:
    with compute_over(FakeCloud(), tmp_path, environment(hook)) as compute:
        run = compute.train(QUICKSTART, options())
        run.wait(poll_s=30)
        compute.watch_once()
    (text,) = hook.texts
    assert text.startswith(f"{run.id} is done: ")
    assert " of at most $5.00 on fake " in text
    assert f"kwanzaa download {run.id}" in text


def test_a_failure_is_told_with_its_reason(hook: object, options: Options, tmp_path: Path) -> None:
    cloud = FakeCloud(training=Training(fails_for_good_at=20))
    with compute_over(cloud, tmp_path, environment(hook)) as compute:
        run = compute.train(QUICKSTART, options())
        receipt = run.wait(poll_s=30)
        assert receipt.state is kc.RunState.FAILED
    (text,) = hook.texts
    assert text.startswith(f"{run.id} failed: {receipt.reason}")


def test_no_capacity_is_a_failure(hook: object, options: Options, tmp_path: Path) -> None:
    with compute_over(
        FakeCloud(faults=Faults(sold_out=1.0)), tmp_path, environment(hook)
    ) as compute:
        run = compute.prepare(compute.plan(QUICKSTART, options()))
        while run.state is kc.RunState.RUNNING:
            run.launch()
    (text,) = hook.texts
    assert text.startswith(f"{run.id} failed: no offer is left to try")


def test_the_cap_is_told(hook: object, options: Options, tmp_path: Path) -> None:
    cloud = FakeCloud(training=Training(steps=10**6))
    with compute_over(cloud, tmp_path, environment(hook)) as compute:
        run = compute.train(QUICKSTART, replace(options(), max_hours=0.5))
        assert run.wait(poll_s=30).state is kc.RunState.CAPPED
    (text,) = hook.texts
    assert text.startswith(f"{run.id} reached its cap: ")
    assert f"kwanzaa resume {run.id} --max-usd AMOUNT" in text


def test_a_stall_is_told_while_the_machine_still_has_a_chance(
    hook: object, options: Options, tmp_path: Path
) -> None:
    cloud = FakeCloud(training=Training(steps=400, hangs=0.02), seed=1)
    with compute_over(cloud, tmp_path, environment(hook)) as compute:
        run = compute.train(QUICKSTART, options())
        run.wait(poll_s=30)
        given_up = [a for a in run.attempts if "no progress" in a.reason]
        noted = [event.message for event in run.events if event.kind == "stall"]
    assert given_up, "the schedule has a hang in it"
    stalls = [text for text in hook.texts if "may be stalled" in text]
    assert len(stalls) == len(given_up), "each of them once"
    assert "nothing has moved for" in stalls[0]
    assert len(noted) == len(given_up), "a line in the history, each of them once"
    assert "is silent since step" in noted[0]


def test_a_stall_is_a_line_in_the_history_where_nobody_has_a_channel(
    options: Options, tmp_path: Path
) -> None:
    cloud = FakeCloud(training=Training(steps=400, hangs=0.02), seed=1)
    with compute_over(cloud, tmp_path, {}) as compute:
        run = compute.train(QUICKSTART, options())
        run.wait(poll_s=30)
        assert [event.kind for event in run.events].count("stall") == sum(
            "no progress" in attempt.reason for attempt in run.attempts
        )


def test_a_machine_that_may_still_bill_is_told_whatever_the_config_says(
    hook: object, options: Options, tmp_path: Path
) -> None:
    cloud = FakeCloud(faults=Faults(terminate_lies=1.0))
    with compute_over(cloud, tmp_path, environment(hook)) as compute:
        run = compute.train(QUICKSTART, options(monitoring__notify_on=[]))
        with pytest.raises(kc.MayBeBillingError):
            run.wait(poll_s=30)
        with pytest.raises(kc.MayBeBillingError):
            run.wait(poll_s=30)
    (text,) = hook.texts
    assert "MAY STILL BE BILLING" in text
    assert "console now" in text


def test_what_the_config_leaves_out_is_not_told(
    hook: object, options: Options, tmp_path: Path
) -> None:
    with compute_over(FakeCloud(), tmp_path, environment(hook)) as compute:
        run = compute.train(QUICKSTART, options(monitoring__notify_on=["failure", "cap"]))
        run.wait(poll_s=30)
        compute.watch_once()
    assert hook.texts == []


def test_who_stops_a_run_needs_no_word_of_it(
    hook: object, options: Options, tmp_path: Path
) -> None:
    with compute_over(FakeCloud(), tmp_path, environment(hook)) as compute:
        run = compute.train(QUICKSTART, options())
        run.stop()
        assert run.wait(poll_s=30).state is kc.RunState.STOPPED
    assert hook.texts == []


def test_of_many_watchers_one_tells(hook: object, options: Options, tmp_path: Path) -> None:
    with compute_over(FakeCloud(), tmp_path) as compute:
        compute.train(QUICKSTART, options()).wait(poll_s=30)
        clock = compute.clock
    start = threading.Barrier(8)

    def watch() -> None:
        mine = kc.Compute(home=tmp_path, environment=environment(hook), clock=clock)
        notifier = Notifier(mine.ledger, mine.environment, clock)
        start.wait()
        notifier.saw([])
        mine.ledger.close()

    threads = [threading.Thread(target=watch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hook.texts) == 1


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_refuses_is_tried_again_later_but_not_for_ever(
    hook: object, options: Options, tmp_path: Path, status: int
) -> None:
    hook.status = status
    cloud = FakeCloud()
    with compute_over(cloud, tmp_path, environment(hook)) as compute:
        run = compute.train(QUICKSTART, options())
        assert run.wait(poll_s=30).state is kc.RunState.DONE
        assert len(hook.got) == 1
        compute.watch_once()
        assert len(hook.got) == 1, "not at once"
        for _ in range(2 * MOST_TRIES):
            cloud.clock.sleep(CLAIM_S + 1)
            compute.watch_once()
        said = [event.message for event in run.events if event.kind == "notice"]
    assert len(hook.got) == len(said) == MOST_TRIES
    assert said[0] == f"finish not told: the webhook answered with HTTP {status}"


def test_a_webhook_that_never_answers_holds_nobody_up(
    hook: object, options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kwanzaa_compute.compute.notifying.DEADLINE_S", 0.2)
    hook.hangs = threading.Event()
    with compute_over(FakeCloud(), tmp_path, environment(hook)) as compute:
        run = compute.train(QUICKSTART, options())
        assert run.wait(poll_s=30).state is kc.RunState.DONE
        (event,) = [event for event in run.events if event.kind == "notice"]
    assert "no answer" in event.message


def test_nobody_at_home_is_noted_without_the_address(options: Options, tmp_path: Path) -> None:
    address = {"KWANZAA_WEBHOOK_URL": "http://127.0.0.1:9/services/T0/B0/s3cr3ts3cr3t"}
    with compute_over(FakeCloud(), tmp_path, address) as compute:
        run = compute.train(QUICKSTART, options())
        run.wait(poll_s=30)
        (event,) = [event for event in run.events if event.kind == "notice"]
    assert "could not be reached (ConnectionRefusedError)" in event.message
    assert "s3cr3t" not in event.message


def test_no_secret_is_told_or_kept(hook: object, options: Options, tmp_path: Path) -> None:
    with compute_over(FakeCloud(), tmp_path, environment(hook)) as compute:
        run = compute.train(QUICKSTART, options())
        run.wait(poll_s=30)
        reason = "401 for hf_0123456789abcdefghij\x1b[2J\u202e at <!channel>"
        compute.ledger.add_notice(run.id, "a test", "failure", reason)
        compute.watch_once()
        said = json.dumps(hook.got)
    assert len(hook.texts) == 2
    assert "hf_0123456789" not in said
    assert "\\u001b" not in said
    assert "\\u202e" not in said
    assert "<!channel>" not in said
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert run.id.encode() in kept
    assert b"s3cr3t" not in kept
    assert "s3cr3t" not in repr(channels_in(environment(hook)))


# ---- the command ---------------------------------------------------------------------------------

LISTEN = """\
import json, os, sys
facts = json.load(sys.stdin)
kept = {name: value for name, value in os.environ.items() if name.startswith("KWANZAA_")}
with open(sys.argv[1], "a") as out:
    out.write(json.dumps({"facts": facts, "kept": kept, "all": dict(os.environ)}) + chr(10))
"""


def test_a_command_gets_the_facts_and_no_secret(
    options: Options, tmp_path: Path, hook: object
) -> None:
    script, out = tmp_path / "listen it.py", tmp_path / "out $(touch x); ok"
    script.write_text(LISTEN)
    words = f"{sys.executable} '{script}' '{out}'"
    variables = environment(hook) | {"KWANZAA_NOTIFY_COMMAND": words, "LANG": "C"}
    with compute_over(FakeCloud(), tmp_path / "home", variables) as compute:
        run = compute.train(QUICKSTART, options())
        receipt = run.wait(poll_s=30)
        compute.watch_once()
    (line,) = out.read_text().splitlines()
    heard = json.loads(line)
    facts = heard["facts"]
    assert (facts["schema"], facts["event"], facts["run"]) == (1, "finish", run.id)
    assert (facts["state"], facts["usd"]) == ("done", str(receipt.usd))
    assert facts["text"] == hook.texts[0].replace("&gt;", ">")
    assert heard["kept"]["KWANZAA_EVENT"] == "finish"
    assert heard["kept"]["KWANZAA_MESSAGE"] == facts["text"]
    assert heard["all"]["LANG"] == "C"
    assert "KWANZAA_WEBHOOK_URL" not in heard["all"]
    assert "HF_TOKEN" not in heard["all"]
    assert not (tmp_path / "x").exists(), "there is no shell"


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("import sys; sys.exit(3)", "ended with code 3"),
        ("import time; time.sleep(60)", "did not end within"),
    ],
)
def test_a_command_that_fails_or_hangs_is_said(
    code: str, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "DEADLINE_S", 1.0)
    message = Message("m", {"event": "finish", "run": "r", "state": "done", "usd": "0"})
    assert failure in Command([sys.executable, "-c", code], {}).tell(message)


def test_a_command_that_is_not_there_is_said() -> None:
    message = Message("m", {"event": "finish", "run": "r", "state": "done", "usd": "0"})
    assert "FileNotFoundError" in Command(["no-such-program"], {}).tell(message)


# ---- where to tell -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://hooks.slack.com/services/T/B/s3cr3t", "ftp://x/s3cr3t", "s3cr3t", "https://"]
)
def test_a_webhook_must_be_https(url: str) -> None:
    with pytest.raises(kc.UsageError, match="not an https:// address") as caught:
        channels_in({"KWANZAA_WEBHOOK_URL": url})
    assert "s3cr3t" not in str(caught.value)


def test_a_webhook_shows_its_url_to_nobody() -> None:
    (hook,) = channels_in({"KWANZAA_WEBHOOK_URL": "https://hooks.slack.com/services/T/B/s3cr3t"})
    assert hook == Webhook(Secret("https://hooks.slack.com/services/T/B/s3cr3t"))
    assert "s3cr3t" not in f"{hook!r} {hook}"


def test_a_traceback_and_a_config_hold_no_webhook(hook: object, tmp_path: Path) -> None:
    assert redacted(f"POST {hook.url} failed", environment(hook)) == "POST *** failed"
    slack = "https://hooks.slack.com/services/T0000/B0000/abcdefghijkl"
    for line in (f"run:\n  name: {slack}\n", f"monitoring:\n  webhook_url: {hook.url}\n"):
        path = tmp_path / "training.yaml"
        path.write_text(f"model:\n  base_model_id: a/b\ndata:\n  train_file: t\n{line}")
        with pytest.raises(kc.ConfigError) as caught:
            kc.load(path)
        assert "environment" in str(caught.value)
        assert "abcdefghijkl" not in str(caught.value)
        assert "s3cr3t" not in str(caught.value)


def test_a_wrong_setting_stops_no_run(options: Options, tmp_path: Path) -> None:
    wrong = {"KWANZAA_WEBHOOK_URL": "slack", "KWANZAA_NOTIFY_COMMAND": "it's"}
    with compute_over(FakeCloud(), tmp_path, wrong) as compute:
        assert compute.train(QUICKSTART, options()).wait(poll_s=30).state is kc.RunState.DONE


# ---- pure ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval_s", "late_s"), [(5.0, 60.0), (400.0, 400.0), (1e9, 3600.0), ("often", 450.0)]
)
def test_a_heartbeat_is_late_after_the_interval_that_the_trainer_told(
    options: Options, tmp_path: Path, interval_s: Any, late_s: float
) -> None:
    """Half of the silence after which its machine is given up, which is twice that interval."""
    with compute_over(FakeCloud(), tmp_path) as compute:
        run = compute.train(QUICKSTART, options())
        step = run.look()
        last = {"phase": "train", "beat_sequence": 3, "beat_changed_at": 1000.0}
        attempt = replace(run.attempts[0], **last)
    seen = replace(step, attempt=attempt, heartbeat=Heartbeat(3, "train", 1, interval_s=interval_s))
    assert stalled_s(seen, 1000 + late_s - 1) == 0
    assert stalled_s(seen, 1000 + late_s) == late_s


def test_only_a_heartbeat_that_was_read_can_be_stalled(options: Options, tmp_path: Path) -> None:
    with compute_over(FakeCloud(), tmp_path) as compute:
        run = compute.train(QUICKSTART, options())
        step = run.look()
        attempt = replace(run.attempts[0], phase="train", beat_changed_at=1000.0)
    attempt = replace(attempt, beat_sequence=3)
    beat = Heartbeat(3, "train", 1)
    seen = replace(step, attempt=attempt, heartbeat=beat)
    assert stalled_s(seen, 1449) == 0
    assert stalled_s(seen, 1450) == 450
    moved = replace(seen, heartbeat=replace(beat, sequence=4))
    assert stalled_s(moved, 9999) == 0, "it has moved since a watcher last saw it"
    assert stalled_s(replace(seen, heartbeat=None), 9999) == 0
    ending = replace(attempt, state=AttemptState.ENDING, ending_at=1000.0)
    assert stalled_s(replace(seen, attempt=ending), 9999) == 0
    assert (is_unconfirmed(ending, 1299), is_unconfirmed(ending, 1300)) == (False, True)
    assert not is_unconfirmed(attempt, 9999)


def test_an_older_ledger_learns_of_notices(options: Options, tmp_path: Path) -> None:
    with compute_over(FakeCloud(), tmp_path) as compute:
        run = compute.prepare(compute.plan(QUICKSTART, options()))
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        for table in ("deliveries", "notices", "project", "watchers"):
            db.execute(f"DROP TABLE {table}")
        db.execute("DROP INDEX open_runs")
        for column in ("reserve_s", "retry_at"):
            db.execute(f"ALTER TABLE attempts DROP COLUMN {column}")
        db.execute("PRAGMA user_version = 3")
    db.close()
    with compute_over(FakeCloud(), tmp_path) as compute:
        assert compute.run(run.id).wait(poll_s=30).state is kc.RunState.DONE
        assert [notice.kind for notice in compute.ledger.claim_notices("webhook")] == ["finish"]
        assert compute.ledger.claim_notices("webhook") == []


# ---- doctor --------------------------------------------------------------------------------------


def test_doctor_tries_the_channels_when_asked(hook: object, tmp_path: Path) -> None:
    compute = kc.Compute(home=tmp_path, environment=environment(hook))
    (set_up,) = [check for check in diagnose(compute) if "notifications" in check.what]
    assert (set_up.state, hook.got) == (State.OK, [])
    (tried,) = [check for check in diagnose(compute, notify=True) if "notif" in check.what]
    assert (tried.state, tried.found) == (State.OK, "a test message was taken")
    assert hook.texts == ["kwanzaa doctor: a test message"]
    hook.status = 404
    (refused,) = [check for check in diagnose(compute, notify=True) if "notif" in check.what]
    assert (refused.state, refused.mend) == (State.WARN, "look at KWANZAA_WEBHOOK_URL")
    assert "HTTP 404" in refused.found


def test_doctor_names_a_wrong_address_and_does_not_show_it(tmp_path: Path) -> None:
    wrong = {"KWANZAA_WEBHOOK_URL": "http://example.org/s3cr3t"}
    checks = diagnose(kc.Compute(home=tmp_path, environment=wrong))
    (check,) = [check for check in checks if check.what == "notifications"]
    assert check.state is State.FAIL
    assert "s3cr3t" not in f"{check}"
