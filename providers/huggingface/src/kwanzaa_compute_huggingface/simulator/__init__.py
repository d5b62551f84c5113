"""The Hub on loopback: its real wire protocol over machines that really run.

For tests and `--simulate`; nothing here is needed to rent a machine.
"""

from kwanzaa_compute_huggingface.simulator.hub import HubSimulator

__all__ = ["HubSimulator"]
