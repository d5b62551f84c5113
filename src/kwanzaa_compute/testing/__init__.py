"""A simulated cloud for tests, ours and our users', and the suite that every driver passes.

`FakeCloud` is a driver for tests, `SimCloud` the model under it, `DriverConformance` (in
`kwanzaa_compute.testing.conformance`) the suite, `kwanzaa_compute.testing.plugin` the pytest plugin
with the fixtures `fake_cloud` and `compute`.
"""

from kwanzaa_compute.testing.fakeclock import FakeClock
from kwanzaa_compute.testing.fakecloud import FakeCloud
from kwanzaa_compute.testing.memory_store import MemoryStore
from kwanzaa_compute.testing.simcloud import SimCloud
from kwanzaa_compute.testing.simtrainer import Training
from kwanzaa_compute.testing.weather import Faults, Place, Trace, Weather

__all__ = [
    "FakeClock",
    "FakeCloud",
    "Faults",
    "MemoryStore",
    "Place",
    "SimCloud",
    "Trace",
    "Training",
    "Weather",
]
