"""The GPU's health as a file: what the card tells, and nothing where it does not. No torch."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.store.objects import open_store
from kwanzaa_trainer.health import COLUMNS, MILLIJOULES_PER_WH, Health, watch_gpu


class RefusedError(Exception):
    """What a card says that does not tell."""


def _refuse(*_: Any) -> Any:
    raise RefusedError


def old_card() -> Any:
    """The management library with a card that knows neither ECC nor reasons for throttling."""
    card = SimpleNamespace(
        NVMLError=RefusedError,
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
        NVML_MEMORY_ERROR_TYPE_UNCORRECTED=1,
        NVML_VOLATILE_ECC=0,
        energy_mj=5_000,
        nvmlDeviceGetUtilizationRates=lambda _: SimpleNamespace(gpu=97),
        nvmlDeviceGetMemoryInfo=lambda _: SimpleNamespace(used=3 * 2**29),
        nvmlDeviceGetPowerUsage=lambda _: 250_500,
        nvmlDeviceGetTemperature=lambda _, kind: {0: 61}[kind],
        nvmlDeviceGetClockInfo=lambda _, kind: {1: 1410}[kind],
        nvmlDeviceGetCurrentClocksThrottleReasons=_refuse,
        nvmlDeviceGetTotalEccErrors=_refuse,
    )
    card.nvmlDeviceGetTotalEnergyConsumption = lambda _: card.energy_mj
    return card


def rows(health: Health) -> list[dict[str, str]]:
    return list(csv.DictReader(health.as_csv().decode().splitlines()))


def test_a_row_holds_what_the_card_tells_and_gaps_where_it_does_not(tmp_path: Path) -> None:
    health = Health(old_card(), None, Clock())
    health.look(3)
    health.upload(open_store(f"file://{tmp_path}"), "gpu.csv", journal=None)  # type: ignore[arg-type]
    (row,) = csv.DictReader((tmp_path / "gpu.csv").read_text().splitlines())
    assert tuple(row) == COLUMNS
    assert row.pop("time").endswith("Z")
    assert row == {
        "step": "3",
        "gpu_percent": "97",
        "memory_gib": "1.5",
        "power_w": "250.5",
        "temperature_c": "61",
        "sm_mhz": "1410",
        "throttle_reasons": "",
        "ecc_uncorrected": "",
        "energy_wh": "0.0",
    }


def test_energy_is_counted_from_the_first_look_and_a_new_count_is_no_gain() -> None:
    card = old_card()
    health = Health(card, None, Clock())
    assert health.look(0) == 0.0
    card.energy_mj += 2 * MILLIJOULES_PER_WH
    assert health.look(1) == 2.0
    card.energy_mj = 7  # the driver was loaded anew
    assert health.look(2) == 0.0
    card.energy_mj += MILLIJOULES_PER_WH
    assert health.look(3) == 1.0
    assert health.energy_wh == 3.0


def test_rows_come_at_most_every_ten_seconds() -> None:
    times = [0.0, 9.0, 10.0, 15.0, 20.5]
    left = iter(times)
    health = Health(old_card(), None, Clock(monotonic=lambda: next(left)))
    for step in range(len(times)):
        health.look(step)
    assert [row["step"] for row in rows(health)] == ["0", "2", "4"]


def test_without_a_gpu_nothing_is_watched(torch: Any) -> None:
    if not torch.cuda.is_available():
        assert watch_gpu(Clock()) is None
