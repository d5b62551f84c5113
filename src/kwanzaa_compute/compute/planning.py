"""From a config to a plan: what the run needs, what is for sale, and what each offer would cost."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kwanzaa_compute.compute.calibration import learnt_speeds
from kwanzaa_compute.compute.inputs import base_folder, count_text
from kwanzaa_compute.config import (
    DataFiles,
    LoadedConfig,
    Note,
    check_data_files,
    load,
    notes_for,
    parse,
)
from kwanzaa_compute.drivers.contract import Deadline, Feature, ProviderInfo
from kwanzaa_compute.errors import ConfigError, DataError
from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.market.plan import Plan, make_plan, requirements_for, settings_for
from kwanzaa_compute.market.prices import bundled_offers, with_live
from kwanzaa_compute.market.recipe import recipe_from_config
from kwanzaa_compute.market.shapes import ModelShape, find_shape, shape_from_config_json
from kwanzaa_compute.market.workload import TextSize, Workload, workload_from_config

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute

DEFAULT_MAX_HOURS = 24.0
ONLY_A_WATCHER = "only a watcher ends this machine: something of yours has to keep running"


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller asks for beyond the config; None leaves it to the config.

    `overrides` are dotted keys of the config, e.g. `{"training.max_steps": 10}`. Money in
    dollars, times in hours. `offline` plans from the bundled prices and asks no provider.
    `validation_h` and `experimentation_h` are hours on the same machine beside the training.
    """

    providers: tuple[str, ...] = ()
    max_usd: Decimal | None = None
    max_hours: float | None = None
    deadline_hours: float | None = None
    gpu: str | None = None
    spot: bool | None = None
    store: str | None = None
    offline: bool = False
    validation_h: float = 0.0
    experimentation_h: float = 0.0
    overrides: Mapping[str, object] = field(default_factory=dict)

    @property
    def as_overrides(self) -> dict[str, object]:
        """All of it as dotted keys: an option is a key of the config that was typed elsewhere."""
        typed = {
            "compute.provider": list(self.providers) or None,
            "compute.max_usd": self.max_usd,
            "compute.max_hours": self.max_hours,
            "compute.deadline_hours": self.deadline_hours,
            "compute.gpu": self.gpu,
            "compute.spot": self.spot,
            "compute.store": self.store,
        }
        given = {key: value for key, value in typed.items() if value is not None}
        return {**self.overrides, **given}


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan together with what it was made from; `Compute.train` can start it."""

    plan: Plan
    loaded: LoadedConfig
    files: DataFiles
    size: TextSize
    """What there is to train on."""
    notes: tuple[Note, ...]
    """Keys of the config that are not applied, or answered differently, each with its reason."""
    warnings: Mapping[str, str]
    """Providers that could not be asked, and why."""

    @property
    def max_usd(self) -> Decimal | None:
        """The cap on the whole run, in dollars."""
        return self.loaded.config.compute.max_usd

    @property
    def deadline_hours(self) -> float | None:
        """Hours from the start until the run must be finished; None where nobody set a deadline."""
        return self.loaded.config.compute.deadline_hours

    @property
    def max_hours(self) -> float:
        """The limit on machine hours: a day, where nobody set one."""
        return self.loaded.config.compute.max_hours or DEFAULT_MAX_HOURS


def plan_run(compute: "Compute", config: Path | str | LoadedConfig, options: Options) -> Planned:
    """Loads, checks, counts, asks what is for sale and ranks it. Spends nothing."""
    loaded = load_with(config, options)
    files = check_data_files(loaded)
    size, workload = _counted(loaded, files)
    shape = _shape(loaded)
    offers, warnings = _offers(compute, loaded, offline=options.offline)
    recipe = recipe_from_config(loaded.config)
    infos = compute.catalogue.providers
    required = requirements_for(
        loaded.config, shape, recipe=recipe, features=_required(compute, loaded)
    )
    left = compute.ledger.project_left_usd() if compute.has_ledger else None
    cap = required.max_usd
    if left is not None and (cap is None or left < cap):
        cap = max(left, Decimal(0))
        warnings = {**warnings, "project": f"its cap leaves ${cap:.2f} for this run: kwanzaa cap"}
    plan = make_plan(
        replace(
            required,
            max_usd=cap,
            max_hours=loaded.config.compute.max_hours or DEFAULT_MAX_HOURS,
        ),
        offers,
        workload,
        shape,
        recipe,
        settings_for(
            loaded.config,
            now=compute.clock.now(),
            receipts=learnt_speeds(compute),
            features={
                name: frozenset({*info.features, *map(_reach, info.store_schemes)})
                for name, info in infos.items()
            },
            validation_h=options.validation_h,
            experimentation_h=options.experimentation_h,
        ),
    )
    return Planned(name_risks(plan, infos), loaded, files, size, notes_for(loaded), warnings)


def name_risks(plan: Plan, infos: Mapping[str, ProviderInfo]) -> Plan:
    """The plan with a mark on each machine that bills on when every watcher has died."""
    return replace(plan, candidates=tuple(_marked(c, infos) for c in plan.candidates))


def _marked(candidate: Candidate, infos: Mapping[str, ProviderInfo]) -> Candidate:
    info = infos.get(candidate.offer.provider)
    if info is None or info.deadline is not Deadline.BY_WATCHER:
        return candidate
    return replace(candidate, marks=(*candidate.marks, ONLY_A_WATCHER))


def load_with(config: Path | str | LoadedConfig, options: Options) -> LoadedConfig:
    """The config with the options over it. Raises `ConfigError`."""
    overrides = options.as_overrides
    if not isinstance(config, LoadedConfig):
        return load(Path(config), overrides)
    return parse(config.raw, config.path, overrides) if overrides else config


def _counted(loaded: LoadedConfig, files: DataFiles) -> tuple[TextSize, Workload]:
    data = loaded.config.data
    size = count_text(files.train, data.format, data.max_seq_length)
    evaluation = count_text(files.eval, data.format, data.max_seq_length) if files.eval else None
    try:
        return size, workload_from_config(loaded.config, size, evaluation)
    except ValueError as error:
        raise DataError(str(error), file=files.train) from error


def _shape(loaded: LoadedConfig) -> ModelShape:
    """The base model's shape: from its own config.json where it lies here, else from our table."""
    name = loaded.config.model.base_model_id
    line = loaded.line_of("model.base_model_id")
    folder = base_folder(loaded)
    if folder is not None:
        try:
            return shape_from_config_json(json.loads((folder / "config.json").read_text()), name)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"model.base_model_id: {folder}/config.json: {error}",
                file=loaded.path,
                line=line,
                mend="download the model's folder again",
            ) from error
    shape = find_shape(loaded.config.model.native_base_model_id)
    if shape is None:
        raise ConfigError(
            f"model.base_model_id: the size of {name} is not known here, so nothing can be planned",
            file=loaded.path,
            line=line,
            mend="download its config.json (and the model) into a folder, and name that folder",
        )
    return shape


def _offers(
    compute: "Compute", loaded: LoadedConfig, *, offline: bool
) -> tuple[tuple[Offer, ...], Mapping[str, str]]:
    """Live offers of the installed providers over the bundled prices of the others."""
    asked = loaded.config.compute.provider
    installed = [name for name in compute.catalogue.providers if not asked or name in asked]
    for name in asked or ():
        if not any(offer.provider == name for offer in bundled_offers()):
            compute.catalogue.find(name)  # says what to install, or what was meant
    if offline:
        installed = [name for name in installed if name == "local"]  # asking it needs no network
    for_sale = compute.offers(installed) if installed else None
    live = for_sale.offers if for_sale else ()
    bundled = tuple(o for o in bundled_offers() if not asked or o.provider in asked)
    return with_live(live, bundled), for_sale.warnings if for_sale else {}


def _required(compute: "Compute", loaded: LoadedConfig) -> frozenset[str]:
    """What a provider must be able to do; a store that was chosen must be within its reach."""
    chosen = compute.chosen_store(loaded.config.compute.store)
    reach = {_reach(urlsplit(chosen).scheme or "file")} if chosen else set()
    return frozenset({Feature.UNATTENDED, Feature.CUSTOM_CODE, *reach})


def _reach(scheme: str) -> str:
    return f"access to {scheme}:// stores"
