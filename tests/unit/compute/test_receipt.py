"""A receipt is rounded against us: it never says less than what was billed."""

from decimal import Decimal

import pytest

from kwanzaa_compute.compute.receipt import receipt_of
from kwanzaa_compute.runs.records import AttemptState
from kwanzaa_compute.runs.spending import spent_usd
from kwanzaa_compute.testing.samples import sample_attempt, sample_run


@pytest.mark.parametrize("usd_per_hour", ["0.204246", "0.0839", "3.673", "1.00", "0.0001"])
def test_a_receipt_never_says_less_than_what_was_billed(usd_per_hour: str) -> None:
    attempts = [
        sample_attempt(
            number=number,
            usd_per_hour=Decimal(usd_per_hour),
            billing_step_s=60,
            state=AttemptState.CLOSED,
            closed_at=float(lived_s),
        )
        for number, lived_s in enumerate((7, 61, 3600), 1)
    ]
    receipt = receipt_of(sample_run(), attempts, 9999.0)
    billed = spent_usd(attempts, 9999.0)
    assert billed <= receipt.usd <= billed + Decimal("0.0001") * len(attempts)
    assert receipt.usd == sum(line.usd for line in receipt.lines)
