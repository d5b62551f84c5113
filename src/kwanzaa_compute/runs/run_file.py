"""`run.json` in the store: a run as the ledger has it, so that a lost ledger can be rebuilt.

No secrets in it. It is written before each launch and at the run's end.
"""

import json
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from kwanzaa_compute.errors import StoreError
from kwanzaa_compute.runs.records import AttemptRecord, RunRecord, values_of

SCHEMA = 2


def run_json(run: RunRecord, attempts: Sequence[AttemptRecord]) -> bytes:
    """The run, its cap and its attempts, as the store keeps them; money as text."""
    document = {
        "schema": SCHEMA,
        "run": values_of(run),
        "attempts": [values_of(a) for a in attempts],
    }
    return json.dumps(document, sort_keys=True, default=str).encode()


def read_run_json(data: bytes) -> tuple[RunRecord, list[AttemptRecord]]:
    """The run of `run_json`. Raises `StoreError`: whoever can write the folder can write anything.

    Checked are types and sizes, and that all of it is of one run and of its owner.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        raw = json.loads(data)
        run = TypeAdapter(RunRecord).validate_python(raw["run"])
        attempts = TypeAdapter(list[AttemptRecord]).validate_python(raw["attempts"])
    except (ValueError, ValidationError, KeyError, TypeError) as error:
        raise StoreError(f"it is not a run that this version reads ({_in_short(error)})") from error
    if not (_is_sound(run) and all(map(_is_sound, attempts))):
        raise StoreError("it holds a number that is none")
    named = {(a.run_id, a.name) for a in attempts}
    if named != {(run.id, f"kwz-{run.owner}-{run.id}-{a.number}") for a in attempts}:
        raise StoreError("its attempts are not its own")
    return run, attempts


def _is_sound(record: RunRecord | AttemptRecord) -> bool:
    numbers = [v for v in values_of(record).values() if isinstance(v, int | float | Decimal)]
    return all(math.isfinite(number) and number >= -1 for number in numbers)


def _in_short(error: Exception) -> str:
    lines: list[Any] = str(error).splitlines()
    return " ".join(map(str.strip, lines[:3])) if lines else type(error).__name__
