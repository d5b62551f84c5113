"""`plan` and `offers`: what it would cost. Nothing is spent, nothing is launched."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kwanzaa_compute.cli.budget_view import Money, budget_document, show_budget
from kwanzaa_compute.cli.documents import offer_document, plan_document, sources_document
from kwanzaa_compute.cli.explain_view import show_explained
from kwanzaa_compute.cli.options import (
    AsJson,
    BaseModel,
    Budget,
    Config,
    Deadline,
    EvalFile,
    Gpu,
    MaxHours,
    MaxSteps,
    MaxUsd,
    Providers,
    Simulate,
    Spot,
    StoreUrl,
    TrainFile,
    buying_compute,
    buying_options,
    config_overrides,
)
from kwanzaa_compute.cli.plan_view import (
    say_notes,
    say_unasked,
    show_candidates,
    show_offers,
    show_refused,
    show_work,
)
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.compute import Planned
from kwanzaa_compute.errors import EXIT_OK, NothingFitsError, UsageError
from kwanzaa_compute.market.gpus import gpu_matches
from kwanzaa_compute.market.offers import Offer

MOST_HOURS = 10_000
_UNKNOWN_PRICE = Decimal("Infinity")

Offline = Annotated[
    bool,
    Parameter(name="--offline", negative="", help="Ask no provider: last answers, bundled prices."),
]
Explain = Annotated[
    bool,
    Parameter(name="--explain", negative="", help="Show each candidate, each refusal, each cost."),
]
Save = Annotated[Path | None, Parameter(name="--save", help="Write the plan to this file.")]
Report = Annotated[
    Path | None, Parameter(name="--report", help="Write the plan as one HTML page to this file.")
]
SuccessRate = Annotated[
    Decimal,
    Parameter(
        name="--success-rate", help="With --budget: the share of runs that give a usable adapter."
    ),
]
Worth = Annotated[
    Decimal | None,
    Parameter(name="--adapter-usd", help="With --budget: what a usable adapter is worth to you."),
]
Month = Annotated[
    str | None,
    Parameter(
        name="--subscription",
        help="Beside a monthly fee that brings so many hours: DOLLARS/HOURS, e.g. 49.99/100.",
    ),
]
ValidationHours = Annotated[
    float, Parameter(name="--validation-hours", help="Hours on the same machine to validate.")
]
ExperimentHours = Annotated[
    float, Parameter(name="--experiment-hours", help="Hours on the same machine to try things.")
]
MinVram = Annotated[float | None, Parameter(name="--min-vram", help="At least so many GiB.")]
Bf16 = Annotated[bool, Parameter(name="--bf16", negative="", help="Only GPUs with bfloat16.")]


def plan(
    config: Config,
    /,
    *,
    budget: Budget = None,
    provider: Providers = (),
    max_usd: MaxUsd = None,
    max_hours: MaxHours = None,
    deadline: Deadline = None,
    gpu: Gpu = None,
    spot: Spot = None,
    base_model: BaseModel = None,
    max_steps: MaxSteps = None,
    train_file: TrainFile = None,
    eval_file: EvalFile = None,
    store: StoreUrl = None,
    offline: Offline = False,
    explain: Explain = False,
    save: Save = None,
    report: Report = None,
    success_rate: SuccessRate = Decimal(1),
    adapter_usd: Worth = None,
    subscription: Month = None,
    validation_hours: ValidationHours = 0.0,
    experiment_hours: ExperimentHours = 0.0,
    simulate: Simulate = False,
    as_json: AsJson = False,
) -> int:
    """What the whole run of CONFIG would cost on every machine that is for sale.

    Candidates are ranked by the expected cost of the run, not of the hour. Every other offer is
    refused with its reason. Nothing is spent.
    """
    screen = Screen(as_json=as_json)
    money = Money.checked(budget, success_rate, adapter_usd, subscription)
    if not (0 <= validation_hours < MOST_HOURS and 0 <= experiment_hours < MOST_HOURS):
        raise UsageError(
            f"hours beside the training are 0 to {MOST_HOURS:,}",
            mend="see --validation-hours and --experiment-hours",
        )
    options = buying_options(
        provider=provider,
        max_usd=max_usd,
        max_hours=max_hours,
        deadline=deadline,
        gpu=gpu,
        spot=spot,
        offline=offline,
        validation_h=validation_hours,
        experimentation_h=experiment_hours,
        overrides=config_overrides(
            base_model=base_model,
            max_steps=max_steps,
            train_file=train_file,
            eval_file=eval_file,
        ),
    )
    with buying_compute(store, provider, simulate=simulate) as compute:
        planned = compute.plan(config, options)
        say_notes(screen, planned, in_full=explain)
        _keep(screen, planned, save=save, report=report)
        if as_json:
            screen.json({**plan_document(planned), "budget": budget_document(planned, money)})
        else:
            show_work(screen, planned)
            show_candidates(screen, planned, compute, everything=explain)
            if explain:
                show_explained(screen, planned.plan)
            show_refused(screen, planned, everything=explain or planned.plan.best is None)
            show_budget(screen, planned, money)
    return EXIT_OK if planned.plan.best is not None else NothingFitsError.exit_code


def _keep(screen: Screen, planned: Planned, *, save: Path | None, report: Path | None) -> None:
    """Writes the plan to the files that were asked for."""
    if save is not None:
        _write(planned.plan.to_json(), save)
        screen.talk(f"saved to {save}")
    if report is not None:
        from kwanzaa_compute.report import plan_page

        name = planned.loaded.config.run.name
        _write(plan_page(planned.plan, title=name, warnings=planned.warnings), report)
        screen.talk(f"page written to {report}")


def _write(text: str, target: Path) -> None:
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the plan cannot be saved to {target}: {error.strerror}", mend="choose another file"
        ) from error


def offers(
    *,
    provider: Providers = (),
    gpu: Gpu = None,
    min_vram: MinVram = None,
    bf16: Bf16 = False,
    spot: Spot = None,
    offline: Offline = False,
    simulate: Simulate = False,
    as_json: AsJson = False,
) -> int:
    """What is for sale, cheapest hour first, with the source and age of each price.

    Installed providers are asked. For the others their last answer is shown, or the bundled prices.
    Which machine does a whole run cheapest is another question: kwanzaa plan answers it.
    """
    screen = Screen(as_json=as_json)
    with buying_compute(None, provider, simulate=simulate) as compute:
        for_sale, now = compute.known_offers(provider, offline=offline), compute.clock.now()
    found = [
        offer
        for offer in for_sale.offers
        if (gpu is None or gpu_matches(offer.gpu, gpu))
        and (min_vram is None or offer.gpu.vram_gib * offer.gpu_count >= min_vram)
        and (not bf16 or offer.gpu.bf16)
        and (spot is None or offer.spot is spot)
    ]
    found.sort(key=_hourly)
    say_unasked(screen, for_sale)
    if as_json:
        screen.json({"offers": [offer_document(o) for o in found], **sources_document(for_sale)})
    elif found:
        show_offers(screen, found, now)
    else:
        screen.talk("nothing for sale matches that")
    return EXIT_OK if found else NothingFitsError.exit_code


def _hourly(offer: Offer) -> tuple[Decimal, str, str]:
    price = Decimal(0) if offer.own_machine else offer.usd_per_hour
    return (_UNKNOWN_PRICE if price is None else price, offer.provider, offer.id)
