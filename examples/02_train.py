"""From a training.yaml to a finished adapter on this machine.

python examples/02_train.py [training.yaml]
"""

import sys
from pathlib import Path

import kwanzaa_compute as kc


def show(step: kc.Step) -> None:
    """Called once a second while the run is watched."""
    beat = step.heartbeat
    if beat and beat.loss is not None:
        print(f"\r{beat.phase} {beat.step}/{beat.total_steps} loss {beat.loss:.3f}  ", end="")


config = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/quickstart/training.yaml")
compute = kc.Compute()

run = compute.train(config, kc.Options(providers=("local",)))
receipt = run.wait(show)
print()
if receipt.state is not kc.RunState.DONE:
    sys.exit(f"{receipt.state}: {receipt.reason}")
print("adapter:", run.download())
print("answer: ", run.done.summary["sample"]["adapter"])
