"""The receipt: what each attempt took and cost, and the estimate beside the bill. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from kwanzaa_compute.runs.records import AttemptRecord, AttemptState, RunRecord, RunState
from kwanzaa_compute.runs.spending import billed_usd


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """One attempt: where it ran, how long (hours) and for how much (dollars)."""

    attempt: int
    provider: str
    gpu: str
    region: str
    spot: bool
    hours: float
    usd_per_hour: Decimal
    usd: Decimal
    ended: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a run has cost. `open_usd_per_hour` is what still bills: zero once it has ended."""

    run_id: str
    state: RunState
    reason: str
    lines: tuple[ReceiptLine, ...]
    usd: Decimal
    hours: float
    estimate_usd: Decimal | None
    cap_usd: Decimal | None
    open_usd_per_hour: Decimal

    def to_dict(self) -> dict[str, Any]:
        """The receipt in JSON's types; money as strings."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def receipt_of(run: RunRecord, attempts: Sequence[AttemptRecord], now: float) -> Receipt:
    """The receipt of a run at time `now` (seconds since the epoch)."""
    lines = tuple(_line(attempt, now) for attempt in attempts)
    still = (a.usd_per_hour for a in attempts if a.state is not AttemptState.CLOSED)
    return Receipt(
        run_id=run.id,
        state=run.state,
        reason=run.reason,
        lines=lines,
        usd=sum((line.usd for line in lines), Decimal(0)),
        hours=sum(line.hours for line in lines),
        estimate_usd=run.estimate_usd,
        cap_usd=run.max_usd,
        open_usd_per_hour=sum(still, Decimal(0)),
    )


def _line(attempt: AttemptRecord, now: float) -> ReceiptLine:
    return ReceiptLine(
        attempt=attempt.number,
        provider=attempt.provider,
        gpu=attempt.gpu,
        region=attempt.region,
        spot=attempt.spot,
        hours=attempt.billed_s(now) / 3600,
        usd_per_hour=attempt.usd_per_hour,
        usd=billed_usd(attempt, now).quantize(Decimal("0.0001"), ROUND_CEILING),
        ended=attempt.reason or str(attempt.state),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
