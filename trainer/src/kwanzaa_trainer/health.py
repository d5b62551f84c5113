"""How the GPU fares while it learns, by NVIDIA's management library: a CSV file, and its energy.

Nothing in here can stop the training. Without a GPU, or without the library, nothing is written.
"""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kwanzaa_compute.clock import Clock, iso
from kwanzaa_compute.errors import StoreError
from kwanzaa_compute.store.objects import Store
from kwanzaa_trainer.journal import Journal

SAMPLE_S = 10.0
"""Least seconds between two rows."""
MILLIJOULES_PER_WH = 3_600_000
GIB = 2**30
COLUMNS = (
    *("time", "step", "gpu_percent", "memory_gib", "power_w", "temperature_c", "sm_mhz"),
    *("throttle_reasons", "ecc_uncorrected", "energy_wh"),
)


@dataclass(slots=True)
class Health:
    """One GPU under watch. What the card does not tell stays empty."""

    nvml: Any
    """The module `pynvml`."""
    handle: Any
    clock: Clock
    energy_wh: float = 0.0
    """What the card has drawn since this watch began; 0 where it does not count it."""
    _counted_mj: int | None = None
    _rows: list[tuple[object, ...]] = field(default_factory=list)
    _sampled_at: float = float("-inf")

    def look(self, step: int) -> float:
        """Takes a row where it is time; returns the Wh that were drawn since the last look."""
        before, self._counted_mj = self._counted_mj, self._energy_mj()
        drawn = 0.0
        if before is not None and self._counted_mj is not None:
            # The count begins anew where the driver is loaded anew.
            drawn = max(0, self._counted_mj - before) / MILLIJOULES_PER_WH
        self.energy_wh += drawn
        now = self.clock.monotonic()
        if now - self._sampled_at >= SAMPLE_S:
            self._sampled_at = now
            self._rows.append((iso(self.clock.now()), step, *self._figures()))
        return drawn

    def as_csv(self) -> bytes:
        """All rows so far, with their header."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *self._rows])
        return text.getvalue().encode()

    def upload(self, store: Store, path: str, journal: Journal) -> None:
        """Carries the file into the store; a store that fails is said and tried next time."""
        if not self._rows:
            return
        try:
            store.put(path, self.as_csv())
        except StoreError as error:
            journal.say("health_not_stored", f"GPU health not stored: {error}", level="warning")

    def _figures(self) -> tuple[object, ...]:
        nvml, card = self.nvml, self.handle
        memory = self._asked(lambda: nvml.nvmlDeviceGetMemoryInfo(card).used)
        power_mw = self._asked(lambda: nvml.nvmlDeviceGetPowerUsage(card))
        return (
            self._asked(lambda: nvml.nvmlDeviceGetUtilizationRates(card).gpu),
            "" if memory == "" else round(memory / GIB, 3),
            "" if power_mw == "" else power_mw / 1000,
            self._asked(lambda: nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU)),
            self._asked(lambda: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM)),
            self._asked(lambda: hex(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card))),
            self._asked(self._ecc_errors),
            round(self.energy_wh, 4),
        )

    def _ecc_errors(self) -> int:
        nvml = self.nvml
        kind, since = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        return int(nvml.nvmlDeviceGetTotalEccErrors(self.handle, kind, since))

    def _energy_mj(self) -> int | None:
        count = self._asked(lambda: self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle))
        return None if count == "" else int(count)

    def _asked(self, question: Callable[[], Any]) -> Any:
        """The answer; "" where this card or its driver gives none."""
        try:
            return question()
        except self.nvml.NVMLError:
            return ""


def watch_gpu(clock: Clock) -> Health | None:
    """A watch over torch's first GPU; None where there is none, or nothing to ask about it."""
    import torch

    if not torch.cuda.is_available():
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    except pynvml.NVMLError:
        return None
    health = Health(pynvml, handle, clock)
    health.look(0)
    return health


def gpu_memory_gib() -> float | None:
    """The most that torch has held on the GPU so far; None without one."""
    import torch

    return torch.cuda.max_memory_reserved() / 2**30 if torch.cuda.is_available() else None
