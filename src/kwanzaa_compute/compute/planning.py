"""From a config to a plan: what the run needs, what is for sale, and what each offer would cost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kwanzaa_compute.compute.calibration import learnt_speeds
from kwanzaa_compute.compute.inputs import base_folder, count_text
from kwanzaa_compute.compute.offers import ForSale
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
from kwanzaa_compute.errors import ConfigError, DataError, UsageError
from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.market.offers import Requirements
from kwanzaa_compute.market.plan import (
    Plan,
    Task,
    make_plan,
    requirements_for,
    settings_for,
    together,
)
from kwanzaa_compute.market.recipe import recipe_from_config
from kwanzaa_compute.market.shapes import ModelShape, find_shape, shape_from_config_json
from kwanzaa_compute.market.workload import TextSize, Workload, workload_from_config
from kwanzaa_compute.store.objects import require_store_url

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute

DEFAULT_MAX_HOURS = 24.0
ONLY_A_WATCHER = "only a watcher ends this machine: something of yours has to keep running"


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller asks for beyond the config; None leaves it to the config.

    `overrides` are dotted keys of the config, e.g. `{"training.max_steps": 10}`. Money in
    dollars, times in hours. `offline` asks no provider: last answers and bundled prices count.
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
class Work:
    """What one adapter takes, read from its config and data before anything is weighed."""

    loaded: LoadedConfig
    files: DataFiles
    size: TextSize
    task: Task
    required: Requirements


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan together with what it was made from; `Compute.train` can start it.

    In a run of several adapters `loaded`, `files` and `size` are those of the first member.
    """

    plan: Plan
    loaded: LoadedConfig
    files: DataFiles
    size: TextSize
    """What there is to train on."""
    notes: tuple[Note, ...]
    """Keys of the config that are not applied, or answered differently, each with its reason."""
    for_sale: ForSale
    """What was weighed, who was asked for it, and who could not be."""
    members: Mapping[str, Work] = field(default_factory=dict)
    """The adapters of a run of several by name, in their order; empty for a run of one."""

    @property
    def warnings(self) -> Mapping[str, str]:
        """Providers that could not be asked, and why."""
        return self.for_sale.warnings

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
    work = read_work(compute, config, options)
    for_sale = ask_for(compute, work, options)
    plan = weigh(compute, [work], for_sale, options)
    return Planned(plan, work.loaded, work.files, work.size, notes_for(work.loaded), for_sale)


def ask_for(compute: "Compute", work: Work, options: Options) -> ForSale:
    """What is for sale by the providers that the config allows."""
    wanted = work.loaded.config.compute.provider or ()
    return compute.known_offers(wanted, offline=options.offline)


def read_work(compute: "Compute", config: Path | str | LoadedConfig, options: Options) -> Work:
    """Loads and checks the config, counts its data. Raises `ConfigError` or `DataError`."""
    loaded = load_with(config, options)
    files = check_data_files(loaded)
    size, workload = _counted(loaded, files)
    shape, recipe = _shape(loaded), recipe_from_config(loaded.config)
    features = _required(compute, loaded)
    required = requirements_for(loaded.config, shape, recipe=recipe, features=features)
    model = loaded.config.model
    task = Task(workload, shape, recipe, f"{model.native_base_model_id}@{model.revision}")
    return Work(loaded, files, size, task, required)


def weigh(compute: "Compute", works: Sequence[Work], for_sale: ForSale, options: Options) -> Plan:
    """Every offer, ranked or refused, for one run that trains all of these adapters."""
    config = works[0].loaded.config
    infos = compute.catalogue.providers
    required = together([work.required for work in works])
    plan = make_plan(
        replace(
            required,
            max_usd=_within_the_project(compute, required.max_usd),
            max_hours=config.compute.max_hours or DEFAULT_MAX_HOURS,
        ),
        for_sale.offers,
        [work.task for work in works],
        settings_for(
            config,
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
    return name_risks(plan, infos)


def _within_the_project(compute: "Compute", cap: Decimal | None) -> Decimal | None:
    """The run's cap, lowered to what the cap on all runs leaves for it."""
    left = compute.ledger.project_left_usd() if compute.has_ledger else None
    if left is None or (cap is not None and cap <= left):
        return cap
    return max(left, Decimal(0))


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
        return _with_sound_store(load(Path(config), overrides))
    loaded = parse(config.raw, config.path, overrides) if overrides else config
    return _with_sound_store(loaded)


def _with_sound_store(loaded: LoadedConfig) -> LoadedConfig:
    """The config, unless it names a store that is none: only here are both known."""
    store, key = loaded.config.compute.store, "compute.store"
    try:
        if store and urlsplit(store).scheme:
            require_store_url(store)
    except UsageError as error:
        message, line = f"{key}: {error.message}", loaded.line_of(key)
        raise ConfigError(message, file=loaded.path, line=line, mend=error.mend) from None
    return loaded


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


def _required(compute: "Compute", loaded: LoadedConfig) -> frozenset[str]:
    """What a provider must be able to do; a store that was chosen must be within its reach."""
    chosen = compute.chosen_store(loaded.config.compute.store)
    reach = {_reach(urlsplit(chosen).scheme or "file")} if chosen else set()
    return frozenset({Feature.UNATTENDED, Feature.CUSTOM_CODE, *reach})


def _reach(scheme: str) -> str:
    return f"access to {scheme}:// stores"
