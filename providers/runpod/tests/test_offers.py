"""What RunPod sells, as live offers."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.compute import Options
from kwanzaa_compute.compute.simulation import compute_over
from kwanzaa_compute.drivers.plugins import discover
from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.market.offers import Availability, Offer
from kwanzaa_compute_runpod.driver import SETTING, VOLUME, RunPodDriver
from kwanzaa_compute_runpod.images import DEFAULT, FOR_BLACKWELL, image_for
from kwanzaa_compute_runpod.replies import SOURCE, offers_of, price_of
from kwanzaa_compute_runpod.simulated.account import MIG_SLICE
from kwanzaa_compute_runpod.simulator import RunPodSimulator


def found(driver: RunPodDriver, gpu: str, region: str) -> Offer:
    return next(o for o in driver.offers() if o.id == gpu and o.region == region)


def test_both_clouds_are_offers_of_their_own(driver: RunPodDriver) -> None:
    secure = found(driver, "NVIDIA RTX A5000", "secure")
    community = found(driver, "NVIDIA RTX A5000", "community")
    prices = [secure.usd_per_hour, community.usd_per_hour]
    assert prices == [Decimal("0.276849"), Decimal("0.166849")]  # with 50 GB of disk
    assert secure.gpu == community.gpu == find_gpu("RTX A5000")
    assert not [offer for offer in driver.offers() if offer.spot or offer.gpu_count != 1]


def test_each_cloud_has_a_stock_of_its_own(
    tmp_path: Path, driver_of: Callable[..., RunPodDriver]
) -> None:
    sold_out = {("NVIDIA RTX A5000", "community"): 0}
    with RunPodSimulator(tmp_path, capacity=sold_out) as simulator:
        driver = driver_of(simulator)
        assert found(driver, "NVIDIA RTX A5000", "secure").availability is Availability.AVAILABLE
        there = found(driver, "NVIDIA RTX A5000", "community").availability
        assert there is Availability.SOLD_OUT


def test_a_type_is_for_sale_where_its_flag_says_so(driver: RunPodDriver) -> None:
    regions = {o.region for o in driver.offers() if o.id == "NVIDIA GeForce RTX 3090"}
    assert regions == {"community"}


def test_a_slice_of_a_card_is_not_the_card(driver: RunPodDriver) -> None:
    gpu = found(driver, MIG_SLICE, "secure").gpu
    assert gpu not in {find_gpu("RTX PRO 6000"), find_gpu("RTX PRO 6000", box_gb=96)}
    assert gpu.compute_capability == (0, 0)


def test_what_we_do_not_know_is_listed_and_never_taken_for_something_else(
    driver: RunPodDriver,
) -> None:
    gpu = found(driver, "AMD Instinct MI300X OAM", "secure").gpu
    assert gpu.source == "not in the table"


NAMES = {
    "NVIDIA A100 80GB PCIe": ("A100-80GB", 80),
    "NVIDIA A100-SXM4-80GB": ("A100-80GB SXM", 80),
    "NVIDIA A30": ("A30", 24),
    "NVIDIA A40": ("A40", 48),
    "NVIDIA B200": ("B200", 180),
    "NVIDIA B300 SXM6 AC": ("B300", 288),
    "NVIDIA GeForce RTX 3070": ("RTX 3070", 8),
    "NVIDIA GeForce RTX 3080": ("RTX 3080", 10),
    "NVIDIA GeForce RTX 3080 Ti": ("RTX 3080 Ti", 12),
    "NVIDIA GeForce RTX 3090": ("RTX 3090", 24),
    "NVIDIA GeForce RTX 3090 Ti": ("RTX 3090 Ti", 24),
    "NVIDIA GeForce RTX 4070 Ti": ("RTX 4070 Ti", 12),
    "NVIDIA GeForce RTX 4080": ("RTX 4080", 16),
    "NVIDIA GeForce RTX 4080 SUPER": ("RTX 4080 SUPER", 16),
    "NVIDIA GeForce RTX 4090": ("RTX 4090", 24),
    "NVIDIA GeForce RTX 5080": ("RTX 5080", 16),
    "NVIDIA GeForce RTX 5090": ("RTX 5090", 32),
    "NVIDIA H100 80GB HBM3": ("H100 SXM", 80),
    "NVIDIA H100 NVL": ("H100 NVL", 94),
    "NVIDIA H100 PCIe": ("H100 PCIe", 80),
    "NVIDIA H200": ("H200", 141),
    "NVIDIA L4": ("L4", 24),
    "NVIDIA L40": ("L40", 48),
    "NVIDIA L40S": ("L40S", 48),
    "NVIDIA RTX 2000 Ada Generation": ("RTX 2000 Ada", 16),
    "NVIDIA RTX 4000 Ada Generation": ("RTX 4000 Ada", 20),
    "NVIDIA RTX 4000 SFF Ada Generation": ("RTX 4000 Ada", 20),
    "NVIDIA RTX 5000 Ada Generation": ("RTX 5000 Ada", 32),
    "NVIDIA RTX 6000 Ada Generation": ("RTX 6000 Ada", 48),
    "NVIDIA RTX A2000": ("RTX A2000", 6),
    "NVIDIA RTX A4000": ("RTX A4000", 16),
    "NVIDIA RTX A4500": ("RTX A4500", 20),
    "NVIDIA RTX A5000": ("RTX A5000", 24),
    "NVIDIA RTX A6000": ("RTX A6000", 48),
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": ("RTX PRO 6000", 96),
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": ("RTX PRO 6000", 96),
    "Tesla V100-PCIE-16GB": ("V100-16GB", 16),
    "Tesla V100-SXM2-16GB": ("V100-16GB", 16),
    "Tesla V100-SXM2-32GB": ("V100-32GB", 32),
}


@pytest.mark.parametrize(("gpu_id", "known"), NAMES.items())
def test_runpods_own_names_are_known(gpu_id: str, known: tuple[str, int]) -> None:
    row = {"id": gpu_id, "name": "?", "memory": known[1], "secure": True, "price": {"secure": 1}}
    (offer,) = offers_of([row], "SECURE", "now")
    assert offer.gpu.name == known[0]


@pytest.mark.parametrize(
    "value", [0, -1, 0.0, True, None, "0.5", float("nan"), float("inf"), 1e308, 10**400, [], {}]
)
def test_a_price_that_is_none_is_unknown_and_never_free(value: Any) -> None:
    assert price_of(value) is None


def test_a_price_keeps_its_cents() -> None:
    assert price_of(0.1) == Decimal("0.1")
    assert price_of(3) == Decimal(3)


def test_a_volume_narrows_the_offers_to_its_own_place(
    simulator: RunPodSimulator, driver_of: Callable[..., RunPodDriver]
) -> None:
    simulator.account.volumes["vol-1"] = "EU-RO-1"
    offers = list(driver_of(simulator, **{VOLUME: "vol-1"}).offers())
    assert {offer.region for offer in offers} == {"EU-RO-1"}
    assert len(simulator.server.exchanges) == 2


class WithVolume(RunPodSimulator):
    """A user who has set a network volume."""

    @property
    def environment(self) -> Mapping[str, str]:
        return {**super().environment, VOLUME: "vol-9"}


def test_a_volume_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with WithVolume(tmp_path / "cloud") as simulator:
        compute = compute_over({"runpod": simulator}, discover(), tmp_path / "home", environment={})
        sold = compute.offers(("runpod",))
        compute.ledger.close()
    assert sold.live == frozenset()
    said = "RunPod knows no network volume 'vol-9' (KWANZAA_RUNPOD_VOLUME)"
    assert sold.warnings == {"runpod": said}


def test_stock_counts_only_hosts_that_run_the_image(
    simulator: RunPodSimulator, driver_of: Callable[..., RunPodDriver]
) -> None:
    list(driver_of(simulator).offers())
    list(driver_of(simulator, **{SETTING: "some/image:1"}).offers())
    asked = [request.query.get("minCudaVersion") for request, _ in simulator.server.exchanges]
    assert asked == [["12.6"], ["12.6"], None, None]


def test_blackwell_gets_an_image_that_holds_its_kernels() -> None:
    for name, image in (("L4", DEFAULT), ("H200", DEFAULT), ("B200", FOR_BLACKWELL)):
        gpu = find_gpu(name)
        assert gpu is not None
        assert image_for(gpu, "") == image
        assert image_for(gpu, "my/own:1").name == "my/own:1"


def test_cold_offers_need_two_requests(simulator: RunPodSimulator, tmp_path: Path) -> None:
    compute = compute_over({"runpod": simulator}, discover(), tmp_path / "home", environment={})
    sold = compute.offers(("runpod",))
    compute.ledger.close()
    assert len(sold.offers) > 10
    assert {offer.source for offer in sold.offers} == {SOURCE}
    assert len(simulator.server.exchanges) == 2


CONFIG = """\
model: {base_model_id: allenai/OLMo-7B-Instruct-hf}
data: {train_file: train.jsonl}
"""


def test_a_plan_for_spot_says_that_runpod_sells_none(
    simulator: RunPodSimulator, tmp_path: Path
) -> None:
    row = {"messages": [{"role": r, "content": "Hello."} for r in ("user", "assistant")]}
    (tmp_path / "train.jsonl").write_text(20 * f"{json.dumps(row)}\n")
    (tmp_path / "training.yaml").write_text(CONFIG)
    compute = compute_over({"runpod": simulator}, discover(), tmp_path / "home", environment={})
    options = Options(providers=("runpod",), spot=True)
    plan = compute.plan(tmp_path / "training.yaml", options).plan
    compute.ledger.close()
    reasons = {refusal.reason for refusal in plan.refused if refusal.offer.gpu.name == "L4"}
    assert plan.candidates == ()
    assert reasons == {"only spot machines were asked for, and runpod sells none"}


@pytest.mark.parametrize("module", ["", ".driver", ".simulator"])
def test_importing_the_package_imports_no_http_library(module: str) -> None:
    code = (
        f"import kwanzaa_compute_runpod{module}, sys, json; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not {"httpx2", "httpcore2", "requests", "runpod", "aiohttp", "cryptography"} & loaded
