"""The views of a run that goes on: plain lines, JSON, and a bar; whatever a machine may write."""

import io
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

import kwanzaa_compute as kc
from kwanzaa_compute.cli.live import BarView, JsonView, LineView, News, line, money
from kwanzaa_compute.cli.look import Look, look_at
from kwanzaa_compute.cli.run_view import _last_word
from kwanzaa_compute.cli.screen import Screen, _narrowed
from kwanzaa_compute.runs.records import Event, RunState
from kwanzaa_compute.store import Heartbeat
from kwanzaa_compute.testing.fakeclock import FakeClock
from kwanzaa_compute.testing.samples import sample_attempt


def sample_look(**changes: Any) -> Look:
    look = Look(
        run_id="tiny-1",
        state=RunState.RUNNING,
        reason="it is working",
        doing="training",
        phase="train",
        attempt=1,
        where="moonbase L4",
        move="wait",
        step=5,
        total_steps=10,
        epoch=0.5,
        loss=1.25,
        eval_loss=None,
        tokens_per_second=812.0,
        eta_s=1800.0,
        gpu_memory_gib=11.2,
        checkpoint="",
        usd=Decimal("0.50"),
        usd_per_hour=Decimal("1.00"),
        cap_usd=Decimal(5),
        estimate_usd=Decimal(1),
        sequence=7,
    )
    return replace(look, **changes)


def test_a_line_says_how_far_how_well_how_fast_and_how_dear() -> None:
    assert line(sample_look()) == (
        "training 5/10  loss 1.250  812 tokens/s  11.2 GiB"
        "  $0.50 and about $0.50 to go of at most $5.00, $1.00/h  30 min 00 s left"
    )


def test_a_silent_trainer_is_marked_wherever_its_run_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    silent = sample_look(silent_s=400.0)
    assert "SILENT for 6 min 40 s" in line(silent)
    assert _last_word(silent) == "training, SILENT for 6 min 40 s"
    view = JsonView(Screen(as_json=True))
    for look in (sample_look(), silent, replace(silent, silent_s=430.0)):
        view.show(look)
    told = [json.loads(text)["silent_s"] for text in capsys.readouterr().out.splitlines()]
    assert told == [0.0, 400.0]


def test_a_free_machine_costs_nothing() -> None:
    assert money(sample_look(usd=Decimal(0), usd_per_hour=Decimal(0))) == "$0.00"


def test_lines_come_every_few_seconds_and_at_each_turn(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock().clock()
    view = LineView(Screen(), News(0), clock.monotonic)
    for step in range(1, 21):  # one look a second
        view.show(sample_look(step=step, sequence=step))
        clock.sleep(1.0)
    assert [text.split()[1:3] for text in capsys.readouterr().err.splitlines()] == [
        ["training", f"{step}/10"] for step in (1, 6, 11, 16)
    ]
    view.show(sample_look(doing="saving", sequence=21))
    view.show(sample_look(doing="saving", sequence=22))
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_long_run_is_told_of_less_often(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock().clock()
    view = LineView(Screen(), News(0), clock.monotonic)
    for second in range(0, 3600, 5):
        view.show(sample_look(sequence=second))
        clock.sleep(5.0)
    assert 60 < len(capsys.readouterr().err.splitlines()) < 200


def test_news_is_told_once_and_old_news_never() -> None:
    events = (
        Event(0.0, "launch", "attempt 1"),
        Event(1.0, "store", "it failed"),
        Event(2.0, "store", "it failed"),
        Event(3.0, "finish", "nobody needs to know"),
        Event(4.0, "relaunch", "attempt 1: gone"),
    )
    news = News(1)
    assert [e.kind for e in news.of(sample_look(events=events))] == ["store", "relaunch"]
    assert list(news.of(sample_look(events=events))) == []


def test_json_is_written_only_when_something_changed(capsys: pytest.CaptureFixture[str]) -> None:
    view = JsonView(Screen(as_json=True))
    for look in (sample_look(), sample_look(usd=Decimal("0.51")), sample_look(sequence=8), None):
        view.show(look)
    rows = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [row["event"] for row in rows] == ["step", "step"]
    assert rows[0]["schema"] == 1
    assert rows[0]["run"] == "tiny-1"
    assert rows[0]["usd"] == "0.50"


@pytest.mark.parametrize(
    "look",
    [
        sample_look(),
        sample_look(step=99, total_steps=3),
        sample_look(total_steps=0, phase="", doing="starting"),
        sample_look(doing="x" * 500, where="y" * 500),
    ],
)
def test_the_bar_can_be_drawn_in_a_narrow_terminal(look: Look) -> None:
    view = BarView(News(0), lambda: 0.0)
    view.show(look)
    console = Console(file=io.StringIO(), width=60, height=20)
    console.print(view._draw())
    assert max(map(len, console.file.getvalue().splitlines())) <= 60  # type: ignore[attr-defined]


def test_a_machine_that_writes_nonsense_stops_no_view(learnt: kc.Run) -> None:
    beat = Heartbeat(
        sequence="one",  # type: ignore[arg-type]
        phase="\x1b[2Jtrain",
        attempt=1,
        step=-4,
        total_steps="many",  # type: ignore[arg-type]
        loss=float("nan"),
        tokens_per_second="fast",  # type: ignore[arg-type]
        eta_s=1e400,
        checkpoint="\x1b[31mred",
    )
    step = kc.Step(learnt.record, sample_attempt(), None, "\x1b[5mreason", beat)
    look = look_at(learnt, step)
    assert (look.step, look.total_steps, look.loss, look.eta_s) == (0, 0, None, None)
    assert "\x1b" not in f"{look.doing}{look.reason}{look.checkpoint}{line(look)}"


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (200, ["run", ">step", ">loss", ">cap", "doing"]),
        (53, ["run", ">step", ">loss", "doing"]),
        (40, ["run", ">step", "doing"]),
        (10, ["run", ">step", "doing"]),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns_and_never_cut_names(
    width: int, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    columns = ["run", ">step", ">loss", ">cap", "doing"]
    rows = [["quickstart-e076e4", "30/30", "3.388", "$5.00", "stopped after a checkpoint"]]
    names, kept = _narrowed(columns, rows, (">cap", ">loss"))
    assert names == shown
    assert kept == [[rows[0][columns.index(name)] for name in shown]]
