"""What the control side put into the store for this run, brought onto this machine."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import ConfigError, DataError, StoreMissingError
from kwanzaa_compute.store.folder import ANSWER_SCHEMA, BASE_MODEL, CONFIG, EVAL_DATA, TRAIN_DATA
from kwanzaa_compute.store.objects import Store, file_sha256
from kwanzaa_trainer.answer_schema import compliance
from kwanzaa_trainer.hub import fetch_from_hub
from kwanzaa_trainer.model import Base
from kwanzaa_trainer.quality import IsCompliant
from kwanzaa_trainer.team import ALONE, Team

SHAPE_KEYS = ("format", "max_seq_length", "packing", "system_prompt")
FREE_KEYS = {
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "effective_batch_size",
    "gradient_checkpointing",
    "gradient_checkpointing_kwargs",
    "fast_path",
    "memory_plan",
    "adapters_at_once",
    "shard_base",
}
"""Keys of `training` that may differ on resumption: they cut the same step into other pieces."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """The run's config, data and base, as local files, with the sha256 of each data file."""

    config: TrainingConfig
    train: Path
    train_sha256: str
    eval: Path | None
    eval_sha256: str | None
    base: Base
    base_identity: str
    """A sha256 over the base's files, or its name and commit on the Hub."""
    is_compliant: IsCompliant | None = None
    """Whether a JSON value follows the user's schema of answers; None without one."""


def fetch_inputs(
    store: Store,
    work: Path,
    *,
    moved: Callable[[], None],
    base_folder: Path | None = None,
    team: Team = ALONE,
) -> Inputs:
    """Downloads config, data and, where the run has its own, the base: that once a machine.

    The base goes to `base_folder`; what another run of the same base has laid there already is not
    fetched again. `moved` is called after each file. Raises `ConfigError` or `DataError` where one
    is missing, and where the schema of answers is none.
    """
    config = read_config(store)
    moved()
    train = _download(store, TRAIN_DATA, work / "train.jsonl")
    if train is None:
        raise DataError("the run's store has no training data", file=TRAIN_DATA)
    evaluation = _download(store, EVAL_DATA, work / "eval.jsonl")
    moved()
    if base_folder is None:
        # What an earlier attempt has left is not trusted.
        shutil.rmtree(work / "base", ignore_errors=True)
    base, base_identity = team.once_a_machine(
        lambda: _fetch_base(store, config, base_folder or work / "base", moved)
    )
    return Inputs(
        config=config,
        train=work / "train.jsonl",
        train_sha256=train,
        eval=work / "eval.jsonl" if evaluation else None,
        eval_sha256=evaluation,
        base=base,
        base_identity=base_identity,
        is_compliant=_answer_schema(store, config, work / "answer_schema.json"),
    )


def identity(inputs: Inputs) -> dict[str, Any]:
    """What makes a checkpoint this run's: all that decides what is learnt, nothing of where.

    Not the precision or the GPU: a checkpoint made on one machine resumes on another.
    """
    raw = inputs.config.model_dump(mode="json")
    training = {k: v for k, v in raw["training"].items() if k not in FREE_KEYS}
    return {
        "base": inputs.base_identity,
        "train data": inputs.train_sha256,
        "eval data": inputs.eval_sha256,
        "run.seed": raw["run"]["seed"],
        "rows in a step": inputs.config.training.rows_per_step,
        **_flat(training, "training"),
        **_flat({"method": raw["adapter"]["method"], "lora": raw["adapter"]["lora"]}, "adapter"),
        **_flat({key: raw["data"][key] for key in SHAPE_KEYS}, "data"),
    }


def read_config(store: Store) -> TrainingConfig:
    """The run's config. Raises `ConfigError` where there is none, or one of another version."""
    try:
        return TrainingConfig.from_json(store.get(CONFIG))
    except StoreMissingError as error:
        raise ConfigError(
            "the run's store has no config", file=CONFIG, mend="start the run again: kwanzaa train"
        ) from error


def _answer_schema(store: Store, config: TrainingConfig, target: Path) -> IsCompliant | None:
    """Read before anything is trained: what it is good for comes last."""
    if "schema_compliance_rate" not in config.answer_metrics:
        return None
    if _download(store, ANSWER_SCHEMA, target) is None:
        raise DataError("the run's store has no schema of answers", file=ANSWER_SCHEMA)
    return compliance(target)


def _download(store: Store, path: str, target: Path) -> str | None:
    try:
        return store.download(path, target)
    except StoreMissingError:
        return None


def _fetch_base(
    store: Store, config: TrainingConfig, target: Path, moved: Callable[[], None]
) -> tuple[Base, str]:
    """The base as a local folder, and what identifies it."""
    files = _download_base(store, target, moved)
    if files:
        return Base(str(target)), _digest_of(files)
    name = config.model.native_base_model_id
    folder = fetch_from_hub(name, config.model.revision, moved=moved)
    return Base(str(folder)), f"{name}@{folder.name}"


def _download_base(store: Store, target: Path, moved: Callable[[], None]) -> dict[str, str]:
    """The sha256 of each file of the base in the store; empty where there is none."""
    digests = {}
    for item in store.list(BASE_MODEL):
        name = item.path.removeprefix(f"{BASE_MODEL}/")
        there = target / name
        is_there = there.is_file() and there.stat().st_size == item.size
        digests[name] = file_sha256(there) if is_there else store.download(item.path, there)
        moved()
    return digests


def _digest_of(files: Mapping[str, str]) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _flat(tree: Mapping[str, Any], path: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        here = f"{path}.{key}"
        flat |= _flat(value, here) if isinstance(value, dict) else {here: value}
    return flat
