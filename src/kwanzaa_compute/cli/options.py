"""Arguments and options that several commands share, and what they mean to the library."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token

from kwanzaa_compute.compute import Compute, Options
from kwanzaa_compute.errors import UsageError


def _usd(_type: Any, tokens: tuple[Token, ...]) -> Decimal:
    text = tokens[0].value.strip().removeprefix("$")
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is not an amount of dollars") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{text!r} is not an amount of dollars")
    return amount


def _option(name: str, about: str, **more: Any) -> Any:
    return Parameter(name=name, help=about, negative="", **more)


AsJson = Annotated[bool, _option("--json", "JSON on stdout, nothing else.")]
Config = Annotated[Path, Parameter(help="The training.yaml.")]
RunId = Annotated[str, Parameter(help="A run, or the beginning of its name.")]
Providers = Annotated[
    tuple[str, ...], _option("--provider", "Only this provider; may be repeated.")
]
Gpu = Annotated[str | None, _option("--gpu", 'Only this GPU or family, e.g. "A100".')]
Spot = Annotated[
    bool | None,
    Parameter(
        name="--spot", negative="--on-demand", help="Only spot machines, or only on-demand ones."
    ),
]
MaxUsd = Annotated[
    Decimal | None, _option("--max-usd", "Cap on the whole run, in dollars.", converter=_usd)
]
Budget = Annotated[
    Decimal | None,
    _option("--budget", "Say how many runs so many dollars pay for.", converter=_usd),
]
MaxHours = Annotated[float | None, _option("--max-hours", "Most hours a machine may run.")]
Deadline = Annotated[float | None, _option("--deadline", "Hours until it must be finished.")]
StoreUrl = Annotated[
    str | None, _option("--store", "Where runs are kept: file://, s3://, gs://, az:// or hf://.")
]
BaseModel = Annotated[
    str | None, _option("--base-model", "Another base model: a repository, or a folder here.")
]
MaxSteps = Annotated[int | None, _option("--max-steps", "Stop after so many optimizer steps.")]
Output = Annotated[Path | None, _option("--output", "Folder for the adapter.")]
Simulate = Annotated[
    bool, _option("--simulate", "Play this --provider on loopback: no account, no money.")
]
TrainFile = Annotated[Path | None, _option("--train-file", "Other training data.")]
EvalFile = Annotated[Path | None, _option("--eval-file", "Other evaluation data.")]


def open_compute(store: str | None = None) -> Compute:
    """The user's runs; `store` wins over the environment and the config."""
    return Compute(store=store)


@contextmanager
def buying_compute(
    store: str | None, providers: tuple[str, ...], *, simulate: bool
) -> Iterator[Compute]:
    """The user's runs, or, with `--simulate`, these providers played on loopback.

    Providers that are nothing but a simulation (`sim`) are always played.
    """
    compute = open_compute(store)
    if not simulate and not _only_simulated(compute, providers):
        yield compute
        return
    if not providers:
        raise UsageError(
            "--simulate needs to know which cloud to play", mend="--provider sim, for example"
        )
    if store is not None:
        raise UsageError("a simulation brings its own store", mend="leave --store away")
    from kwanzaa_compute.compute.simulation import simulated

    with simulated(providers, home=compute.home) as played:
        yield played


def _only_simulated(compute: Compute, providers: tuple[str, ...]) -> bool:
    known = [compute.catalogue.providers.get(name) for name in providers]
    return bool(known) and all(one and one.simulated and one.simulator for one in known)


def buying_options(
    *,
    provider: tuple[str, ...] = (),
    max_usd: Decimal | None = None,
    max_hours: float | None = None,
    deadline: float | None = None,
    gpu: str | None = None,
    spot: bool | None = None,
    offline: bool = False,
    validation_h: float = 0.0,
    experimentation_h: float = 0.0,
    overrides: dict[str, object] | None = None,
) -> Options:
    """The library's options; `overrides` without a value are left to the config."""
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    return Options(
        providers=provider,
        max_usd=max_usd,
        max_hours=max_hours,
        deadline_hours=deadline,
        gpu=gpu,
        spot=spot,
        offline=offline,
        validation_h=validation_h,
        experimentation_h=experimentation_h,
        overrides=given,
    )


def config_overrides(
    *,
    base_model: str | None = None,
    max_steps: int | None = None,
    output: Path | None = None,
    train_file: Path | None = None,
    eval_file: Path | None = None,
) -> dict[str, object]:
    """The config's keys that options of the command line replace."""
    return {
        "model.base_model_id": base_model and _folder_or_name(base_model),
        "training.max_steps": max_steps,
        "artifacts.output_dir": output and str(output),
        "data.train_file": train_file and str(train_file.absolute()),
        "data.eval_file": eval_file and str(eval_file.absolute()),
    }


def _folder_or_name(model: str) -> str:
    """What is typed is meant from the current folder, though the config's own would come first."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else model
