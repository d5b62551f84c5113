"""Runs as people read them: the table, one run in full, its end, and what Ctrl-C leaves behind."""

from collections.abc import Mapping, Sequence
from typing import Any

from kwanzaa_compute.cli.look import Look, where
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.cli.words import clean, duration, figure, hours, number, usd
from kwanzaa_compute.clock import iso
from kwanzaa_compute.compute import Compute, Receipt, Run
from kwanzaa_compute.drivers.contract import Deadline
from kwanzaa_compute.errors import KwanzaaError
from kwanzaa_compute.runs.records import AttemptState, RunState
from kwanzaa_compute.store import Failure

_LONGEST_ANSWER = 400
_GO_ON: Mapping[RunState, str] = {
    RunState.FAILED: "when its cause is mended, kwanzaa resume {run} goes on",
    RunState.STOPPED: "kwanzaa resume {run} goes on from its newest checkpoint",
    RunState.CAPPED: "kwanzaa resume {run} --max-usd AMOUNT goes on from its newest checkpoint",
    RunState.NO_CAPACITY: "kwanzaa resume {run} tries again",
}


def show_runs(screen: Screen, looks: Sequence[tuple[Run, Look]]) -> None:
    """The table of runs."""
    screen.table(
        ("run", "state", "where", ">step", ">loss", ">$/h now", ">$ so far", ">cap", "doing"),
        [
            (
                look.run_id,
                str(look.state),
                look.where,
                _steps(look),
                figure(look.loss),
                usd(look.usd_per_hour) if look.usd_per_hour else "-",
                usd(look.usd),
                usd(look.cap_usd),
                _last_word(look),
            )
            for _, look in looks
        ],
        expendable=(">cap", ">$/h now", ">loss", ">step"),
    )


def _last_word(look: Look) -> str:
    if look.state is RunState.DONE:
        return ""
    silent = f", SILENT for {duration(look.silent_s)}" if look.silent_s else ""
    return look.reason if look.is_final else f"{look.doing}{silent}"


def _steps(look: Look) -> str:
    return f"{look.step}/{look.total_steps}" if look.total_steps else str(look.step or "-")


def show_run(screen: Screen, run: Run) -> None:
    """One run in full."""
    record, receipt = run.record, run.receipt
    screen.write(f"{record.id}: {record.state}", "bold")
    for name, value in (
        ("reason", record.reason),
        ("name", record.name),
        ("started", iso(record.created_at)),
        ("ended", "" if record.ended_at is None else iso(record.ended_at)),
        ("store", record.store_url),
        ("adapter", record.output_dir if record.state is RunState.DONE else ""),
        ("saved", ", ".join(checkpoints_of(run) or ())),
        ("limits", f"{usd(record.max_usd)} and {hours(record.max_hours)}"),
        ("bills now", f"{usd(receipt.open_usd_per_hour)}/h" if receipt.open_usd_per_hour else ""),
    ):
        if value:
            screen.write(f"  {name:10} {clean(value)}")
    show_receipt(screen, receipt)
    screen.write("\nhistory", "bold")
    for event in run.events:
        screen.write(f"  {iso(event.at)}  {clean(event.kind)}: {clean(event.message)}")


def checkpoints_of(run: Run) -> list[str] | None:
    """Its checkpoints, the newest first; None where the store cannot be asked."""
    try:
        return run.checkpoints
    except KwanzaaError:
        return None


def show_receipt(screen: Screen, receipt: Receipt) -> None:
    """What each attempt took and cost, with the estimate beside the bill."""
    screen.write("\nreceipt", "bold")
    if not receipt.lines:
        screen.write("  nothing was launched, nothing was spent")
        return
    rows = [
        (
            str(entry.attempt),
            " ".join(filter(None, (entry.provider, entry.gpu, entry.region))),
            hours(entry.hours),
            usd(entry.usd_per_hour),
            usd(entry.usd),
            entry.ended,
        )
        for entry in receipt.lines
    ]
    estimate = "" if receipt.estimate_usd is None else f"estimated {usd(receipt.estimate_usd)}"
    cap = "" if receipt.cap_usd is None else f"cap {usd(receipt.cap_usd)}"
    aside = ", ".join(filter(None, (estimate, cap)))
    rows.append(("", "in all", hours(receipt.hours), "", usd(receipt.usd), aside))
    screen.table((">", "machine", ">time", ">$/h", ">$", "ended"), rows)


def show_end(screen: Screen, run: Run, receipt: Receipt, adapter: str | None) -> None:
    """How a run ended: what was learnt, where the adapter is, what it cost, what to do next."""
    state = receipt.state
    style = "green" if state is RunState.DONE else "yellow" if not state.exit_code else "red"
    reason = "" if state is RunState.DONE else f": {clean(receipt.reason)}"
    screen.write(f"{run.id}: {state}{reason}", f"bold {style}")
    done = run.done if state is RunState.DONE else None
    if done is not None:
        _show_learnt(screen, done.summary)
    if adapter is not None:
        screen.write(f"  adapter    {adapter}")
    show_receipt(screen, receipt)
    if done is not None:
        _show_sample(screen, done.summary.get("sample"))
    else:
        _show_unfinished(screen, run)
    _show_next(screen, run, state)


def _show_unfinished(screen: Screen, run: Run) -> None:
    """Of a run of several adapters: which are finished all the same, and can be had."""
    try:
        ready = run.finished if run.members else {}
    except KwanzaaError:
        return  # the store has said so already
    if ready:
        screen.talk(f"  {len(ready)} of {len(run.members)} are done: {', '.join(ready)}")
        screen.talk(f"  -> kwanzaa download {run.id} fetches them")


def _show_learnt(screen: Screen, summary: Mapping[str, Any]) -> None:
    members = summary.get("members")
    if isinstance(members, dict):
        for name, learnt in members.items():
            screen.write(f"  {clean(name)}")
            if isinstance(learnt, dict):
                _show_learnt(screen, learnt)
        return
    before = number(summary.get("eval_loss_first"))
    is_best = summary.get("adapter_step") != summary.get("steps")
    after = number(summary.get("eval_loss_best" if is_best else "eval_loss_last"))
    if before and after:
        change = f"{100 * (after - before) / before:+.0f} %"
        screen.write(f"  eval loss  {before:.3f} -> {after:.3f}  ({change})")
    elif number(summary.get("train_loss")) is not None:
        screen.write(f"  train loss {figure(summary.get('train_loss'))}")
    steps, seconds = summary.get("steps"), number(summary.get("train_s"))
    _show_quality(screen, summary.get("quality"))
    early = ", stopped early" if summary.get("stopped_early") is True else ""
    screen.write(f"  steps      {clean(steps)} in {duration(seconds)}{early}")


def _show_quality(screen: Screen, quality: Any) -> None:
    """The share that each metric of generated answers reached, and which targets were missed."""
    if not isinstance(quality, dict) or not isinstance(quality.get("rates"), dict):
        return
    missed, targets = quality.get("missed"), quality.get("targets")
    for name, rate in quality["rates"].items():
        if (value := number(rate)) is None:
            continue
        label = str(name).removesuffix("_rate").replace("_", " ")
        line = f"  quality    {clean(label)} {100 * value:.0f} %"
        target = number(targets.get(name)) if isinstance(targets, dict) else None
        is_missed = isinstance(missed, list) and name in missed
        short = f", below its target of {100 * target:.0f} %" if is_missed and target else ""
        screen.write(line + short, "yellow" if is_missed else "")
    if quality.get("answered") != quality.get("asked"):
        answered, asked = clean(quality.get("answered")), clean(quality.get("asked"))
        screen.write(f"  quality    only {answered} of {asked} were answered, so no target counts")


def _show_sample(screen: Screen, sample: Any) -> None:
    if not isinstance(sample, dict):
        return
    screen.write("\none question, two answers", "bold")
    for who in ("question", "base", "adapter"):
        text = clean(sample.get(who, "-"), lines=True).strip() or "(nothing)"
        if len(text) > _LONGEST_ANSWER:
            text = f"{text[:_LONGEST_ANSWER]} ..."
        screen.paragraph(f"  {who:9}  ", text)


def _show_next(screen: Screen, run: Run, state: RunState) -> None:
    if state is RunState.FAILED:
        failure = _failure(run)
        if failure is not None and failure.mend:
            screen.talk(f"  -> {clean(failure.mend)}", "red")
        screen.talk(f"  -> kwanzaa logs {run.id} shows what it said", "red")
    if state in _GO_ON and run.record.trains:
        screen.talk(f"  -> {_GO_ON[state].format(run=run.id)}")


def _failure(run: Run) -> Failure | None:
    try:
        return run.folder.failure(run.attempts[-1].number)
    except (KwanzaaError, IndexError):
        return None


def say_what_goes_on(screen: Screen, compute: Compute, run_ids: Sequence[str]) -> None:
    """What is running, what it costs, and how to go on: said when somebody leaves."""
    if compute.is_simulated:
        screen.talk("the simulation ends here, and its machines with it; it cost nothing")
        return
    for run_id in run_ids:
        run = compute.run(run_id)
        receipt, attempts = run.receipt, run.attempts
        still = [a for a in attempts if a.state is not AttemptState.CLOSED]
        if receipt.state is not RunState.RUNNING:
            screen.talk(f"{run.id} has ended: {receipt.state}, {usd(receipt.usd)}")
            continue
        if not still:
            screen.talk(f"{run.id} has no machine just now; it cost {usd(receipt.usd)} until now")
        for attempt in still:
            rate = attempt.usd_per_hour
            price = f"for {usd(rate)} an hour" if rate else "free"
            screen.talk(f"{run.id} goes on: {where(attempt)}, {price}", "bold")
            ends_at = iso(attempt.intended_at + attempt.max_hours * 3600)
            cap = "" if receipt.cap_usd is None else f" of at most {usd(receipt.cap_usd)}"
            screen.talk(f"  it cost {usd(receipt.usd)}{cap} until now, and ends by {ends_at}")
            if _by_watcher(compute, attempt.provider):
                screen.talk("  only a watcher ends this machine: keep kwanzaa watch running", "red")
        screen.talk(f"  watch it   kwanzaa resume {run.id}")
        screen.talk(f"  end it     kwanzaa terminate {run.id}")


def _by_watcher(compute: Compute, provider: str) -> bool:
    info = compute.catalogue.providers.get(provider)
    return info is None or info.deadline is Deadline.BY_WATCHER
