"""Telling somebody what happened to runs: once, from whichever watcher, and never at a run's cost.

Ends are posted by the ledger with the end itself; what only a watcher can see, a stall and a
machine that may still bill, is posted here. Whatever fails is noted in the run's history.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.clock import iso
from kwanzaa_compute.compute.channels import (
    DEADLINE_S,
    Channel,
    Message,
    channels_in,
)
from kwanzaa_compute.compute.receipt import Receipt, receipt_of
from kwanzaa_compute.config.redaction import redacted
from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.runs.lifecycle import allowed_silence_s
from kwanzaa_compute.runs.observation import sound_beat
from kwanzaa_compute.runs.outbox import Notice, NoticeKind
from kwanzaa_compute.runs.records import AttemptRecord, AttemptState, RunRecord
from kwanzaa_compute.runs.step import Step
from kwanzaa_compute.runs.supervisor import UNCONFIRMED_S

if TYPE_CHECKING:
    from kwanzaa_compute.clock import Clock
    from kwanzaa_compute.runs.ledger import Ledger

STALL_FRACTION = 1 / 2
"""Of the silence after which a machine is given up. That is twice the interval which the trainer
has told, so this is the moment at which its next heartbeat is late; never before a minute."""
_SAYS: Mapping[str, str] = {
    NoticeKind.FINISH: "is done",
    NoticeKind.FAILURE: "failed",
    NoticeKind.STALL: "may be stalled",
    NoticeKind.CAP: "reached its cap",
    NoticeKind.BILLING: "MAY STILL BE BILLING",
}
_NEXT: Mapping[str, str] = {
    NoticeKind.FINISH: "kwanzaa download {run}",
    NoticeKind.FAILURE: "kwanzaa logs {run}",
    NoticeKind.STALL: "kwanzaa monitor {run}",
    NoticeKind.CAP: "kwanzaa resume {run} --max-usd AMOUNT",
    NoticeKind.BILLING: "look at the provider's console now",
}


class Notifier:
    """A watcher's voice. Its methods never raise for what a channel does."""

    def __init__(self, ledger: "Ledger", environment: Mapping[str, str], clock: "Clock") -> None:
        """Where to tell is read from the environment, at first use."""
        self._ledger = ledger
        self._environment = environment
        self._clock = clock

    def saw(self, steps: Sequence[Step]) -> None:
        """Posts what these steps showed, and tells whatever waits to be told.

        A stall gets a line in the run's history, whoever watches. A watcher without a channel
        leaves notices to those that have one.
        """
        for step in steps:
            self._note_stall(step)
            if self._channels:
                self._post(step)
        for channel in self._channels:
            notices = self._ledger.claim_notices(channel.name)
            wanted = [notice for notice in notices if self._is_wanted(notice)]
            for notice in notices:
                if notice not in wanted:
                    self._ledger.settle_notice(notice, channel.name)
            self._tell(channel, wanted)

    @cached_property
    def _channels(self) -> list[Channel]:
        try:
            return channels_in(self._environment)
        except UsageError:
            return []  # kwanzaa doctor says so; no run is held up by it

    def _note_stall(self, step: Step) -> None:
        attempt = step.attempt
        if attempt is None or not stalled_s(step, self._clock.now()):
            return
        message = (
            f"attempt {attempt.number} is silent since step {attempt.step}"
            f" in phase {attempt.phase} (heartbeat {attempt.beat_sequence})"
        )
        if message not in {e.message for e in self._ledger.events(attempt.run_id)}:
            self._ledger.note(attempt.run_id, "stall", message)

    def _post(self, step: Step) -> None:
        attempt, now = step.attempt, self._clock.now()
        if attempt is None:
            return
        if quiet_s := stalled_s(step, now):
            key = f"stall {attempt.number} {attempt.beat_sequence}"
            reason = f"nothing has moved for {quiet_s:.0f} s in phase {attempt.phase}"
            self._ledger.add_notice(attempt.run_id, key, NoticeKind.STALL, reason)
        if is_unconfirmed(attempt, now):
            reason = f"the end of machine {attempt.machine_id or attempt.name} is not confirmed"
            key = f"billing {attempt.number}"
            self._ledger.add_notice(attempt.run_id, key, NoticeKind.BILLING, reason)

    def _is_wanted(self, notice: Notice) -> bool:
        if notice.kind == NoticeKind.BILLING:
            return True
        wanted = json.loads(self._ledger.run(notice.run_id).config).get("monitoring", {})
        return notice.kind in wanted.get("notify_on", list(NoticeKind))

    def _tell(self, channel: Channel, notices: Sequence[Notice]) -> None:
        """Tells them side by side; who has not answered at the deadline is not waited for."""
        failures = _side_by_side(channel, [self._message(notice) for notice in notices])
        for notice, failure in zip(notices, failures, strict=True):
            if failure:
                self._ledger.note(notice.run_id, "notice", f"{notice.kind} not told: {failure}")
            else:
                self._ledger.settle_notice(notice, channel.name)

    def _message(self, notice: Notice) -> Message:
        run, attempts = self._ledger.run(notice.run_id), self._ledger.attempts(notice.run_id)
        receipt = receipt_of(run, attempts, self._clock.now())
        facts = self._facts(notice, run, attempts, receipt)
        cap = f" of at most ${run.max_usd:,.2f}" if run.max_usd is not None else ""
        where = f" on {facts['where']}" if facts["where"] else ""
        return Message(
            f"{run.id} {_SAYS[notice.kind]}: {facts['reason']}. It cost ${receipt.usd:,.2f}{cap}"
            f"{where}. -> {_NEXT[notice.kind].format(run=run.id)}",
            facts,
        )

    def _facts(
        self,
        notice: Notice,
        run: RunRecord,
        attempts: Sequence[AttemptRecord],
        receipt: Receipt,
    ) -> dict[str, Any]:
        last = attempts[-1] if attempts else None
        return {
            "schema": 1,
            "event": notice.kind,
            "run": run.id,
            "name": self._harmless(run.name),
            "state": str(run.state),
            "reason": self._harmless(notice.message),
            "at": iso(notice.at),
            "attempt": last.number if last else 0,
            "step": last.step if last else 0,
            "where": self._harmless(f"{last.provider} {last.gpu} {last.region}") if last else "",
            "usd": str(receipt.usd),
            "usd_per_hour": str(receipt.open_usd_per_hour),
            "cap_usd": None if run.max_usd is None else str(run.max_usd),
            "hours": receipt.hours,
        }

    def _harmless(self, text: str) -> str:
        """Somebody else's text on one line: nothing to obey, nothing hidden, no credential."""
        shown = redacted(text, self._environment)
        return "".join(c if c.isprintable() else " " for c in shown).strip()


def stalled_s(step: Step, now: float) -> float:
    """For how many seconds nothing has moved, where that is worth a word; else zero.

    Only a heartbeat that could be read counts: a store that fails is not a trainer's silence. Nor
    is it one where the heartbeat has moved since a watcher last saw it.
    """
    attempt, beat = step.attempt, sound_beat(step.heartbeat)
    if attempt is None or beat is None or attempt.state is not AttemptState.LIVE:
        return 0.0
    if beat.sequence != attempt.beat_sequence:
        return 0.0
    allowed = allowed_silence_s(beat) * STALL_FRACTION
    quiet_s = now - (attempt.beat_changed_at or now)
    return quiet_s if quiet_s >= allowed else 0.0


def is_unconfirmed(attempt: AttemptRecord, now: float) -> bool:
    """Whether a machine has been ended so long ago, unconfirmed, that somebody must look."""
    ending = attempt.state is AttemptState.ENDING and attempt.ending_at is not None
    return ending and now - (attempt.ending_at or now) >= UNCONFIRMED_S


def _side_by_side(channel: Channel, messages: Sequence[Message]) -> list[str]:
    failures = [f"no answer within {DEADLINE_S:.0f} s"] * len(messages)
    left, all_told = len(messages), threading.Event()
    counting = threading.Lock()

    def work(index: int) -> None:
        nonlocal left
        failure = channel.tell(messages[index])
        with counting:
            failures[index], left = failure, left - 1
            if not left:
                all_told.set()

    for index in range(len(messages)):
        # A daemon: nobody waits for a webhook that hangs, at the end of the process neither.
        threading.Thread(target=work, args=(index,), name="notice", daemon=True).start()
    if messages:
        all_told.wait(DEADLINE_S)
    with counting:
        return list(failures)
