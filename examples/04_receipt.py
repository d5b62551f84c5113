"""What did my runs cost, attempt by attempt? Reads the ledger, nothing else.

python examples/04_receipt.py
"""

import kwanzaa_compute as kc

for run in kc.Compute().runs():
    receipt = run.receipt
    print(f"{run.id}: {receipt.state}, {receipt.hours:.3f} h, ${receipt.usd:.2f}")
    for line in receipt.lines:
        print(f"  {line.attempt}. {line.provider} {line.gpu} {line.hours:.3f} h -> {line.ended}")
    if receipt.open_usd_per_hour:
        print(f"  still billing ${receipt.open_usd_per_hour} an hour")
