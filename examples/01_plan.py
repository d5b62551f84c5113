"""What would this run cost, and where? Spends nothing, asks nobody.

python examples/01_plan.py [training.yaml]
"""

import sys
from pathlib import Path

import kwanzaa_compute as kc

config = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/quickstart/training.yaml")

planned = kc.Compute().plan(config, kc.Options(offline=True))

print(f"{planned.size.samples} samples in {planned.files.train}")
for candidate in planned.plan.candidates[:5]:
    offer, hours, usd = candidate.offer, candidate.hours, candidate.usd
    print(f"{offer.provider:10} {offer.gpu.name:16} {hours.expected:6.2f} h  ${usd.expected:.2f}")
print(f"{len(planned.plan.refused)} offers refused, for example:")
for refusal in planned.plan.refused[:3]:
    print(f"{refusal.offer.provider:10} {refusal.offer.gpu.name:16} {refusal.reason}")
