"""The public names as a type checker sees them. mypy reads this file; nothing ever runs it."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import assert_type

import kwanzaa_compute as kc
from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import (
    Driver,
    DriverContext,
    Feature,
    Job,
    Phase,
    ProviderInfo,
    Sighting,
    SSHAccess,
)
from kwanzaa_compute.market.gpus import GPU
from kwanzaa_compute.market.offers import Offer, Requirements
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.store import RunFolder, open_store
from kwanzaa_compute.store.objects import Store


def a_user_trains_and_reads_the_receipt(config: Path) -> None:
    compute = kc.Compute(home="~/.kwanzaa", clock=Clock())
    planned = compute.plan(config, kc.Options(max_usd=Decimal(5), providers=("local",)))
    assert_type(planned, kc.Planned)
    run = compute.train(config, planned=planned)
    assert_type(run, kc.Run)
    assert_type(run.state, kc.RunState)
    receipt = run.wait()
    assert_type(receipt, kc.Receipt)
    assert_type(receipt.usd, Decimal)
    assert_type(receipt.lines, tuple[kc.ReceiptLine, ...])
    assert_type(run.download("adapter"), Path)
    assert_type(compute.runs(), list[kc.Run])
    assert_type(compute.watch(), list[kc.Step])


def a_user_looks_at_what_is_for_sale(compute: kc.Compute) -> None:
    for_sale = compute.offers(["local"])
    assert_type(for_sale.offers, tuple[Offer, ...])
    assert_type(for_sale.warnings, Mapping[str, str])
    for offer in for_sale.offers:
        assert_type(offer.usd_per_hour, Decimal | None)
        assert_type(offer.gpu, GPU)


def a_user_rents_a_machine_to_look_around_on(compute: kc.Compute) -> None:
    choice = compute.choose_machine(kc.MachineWish(max_hours=4.0, gpu="A100-80GB"))
    assert_type(choice, kc.MachineChoice)
    run = compute.provision(choice)
    assert_type(run, kc.Run)
    assert_type(run.ssh(), SSHAccess | None)


def an_error_says_what_to_do(error: kc.KwanzaaError) -> None:
    assert_type(error.exit_code, int)
    assert_type(error.mend, str)
    if isinstance(error, kc.ProviderError):
        assert_type(error.nothing_was_created, bool)
        assert_type(error.retry_after_s, float | None)
    if isinstance(error, kc.ConfigError):
        assert_type(error.line, int | None)


def a_store_is_a_store(url: str) -> RunFolder:
    store: Store = open_store(url)
    assert_type(store.get("run.json"), bytes)
    return RunFolder(store)


class Moonbase:
    """A driver needs no base class: six methods of the right shape and its features."""

    features = frozenset({Feature.UNATTENDED, Feature.CUSTOM_CODE})

    def __init__(self, context: DriverContext) -> None:
        self._token = Secret(context.environment["MOONBASE_TOKEN"])

    def offers(self) -> Iterable[Offer]:
        return []

    def launch(self, job: Job, offer: Offer) -> str:
        return f"{offer.id}/{job.name}"

    def inspect(self, machine_id: str) -> Sighting:
        return Sighting(machine_id, Phase.GONE)

    def fleet(self) -> Iterable[Sighting]:
        return []

    def terminate(self, machine_id: str) -> None:
        return None

    def classify(self, error: Exception) -> kc.ProviderError:
        return kc.TransientError(str(error))


def a_class_with_the_six_methods_is_a_driver(context: DriverContext) -> Driver:
    return Moonbase(context)


@kc.hookimpl
def kwanzaa_providers() -> Iterable[ProviderInfo]:
    return [ProviderInfo(name="moonbase", title="Moonbase", driver="moonbase.driver:Moonbase")]


def units_are_in_the_names() -> Requirements:
    return Requirements(vram_gib=24, disk_gib=60.0, max_usd=Decimal(5), max_hours=2.5)
