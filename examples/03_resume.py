"""Stop a run in the middle, then go on from its checkpoint. Nothing is trained twice.

python examples/03_resume.py [training.yaml]
"""

import sys
from pathlib import Path

import kwanzaa_compute as kc

config = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/quickstart/training.yaml")
compute = kc.Compute()
run = compute.train(config, kc.Options(providers=("local",)))


def stop_after_two_steps(step: kc.Step) -> None:
    """Asks for a checkpoint and an end as soon as something has been learned."""
    beat = step.heartbeat
    if beat and beat.step >= 2:
        run.stop()


print("stopped:", run.wait(stop_after_two_steps).reason)
print("newest checkpoint:", run.attempts[-1].checkpoint)

receipt = compute.resume(run.id).wait()
print(f"{receipt.state} after {len(receipt.lines)} attempts: {run.download()}")
