"""Find the files that a config names."""

import json
from dataclasses import dataclass
from pathlib import Path

from kwanzaa_compute.config.loading import LoadedConfig
from kwanzaa_compute.errors import DataError


@dataclass(frozen=True, slots=True)
class DataFiles:
    """The data files of a run, found; `eval` is None where nothing is evaluated."""

    train: Path
    eval: Path | None
    answer_schema: Path | None = None
    """The JSON Schema of answers, where replies are held against it."""


def resolve_file(name: str, config_path: Path, *, key: str, line: int | None = None) -> Path:
    """Find the file that `key` names: beside the config first, then in the current folder.

    Raises `DataError`, with both paths that were tried, where neither is a file.
    """
    tried = list(dict.fromkeys([config_path.absolute().parent / name, Path.cwd() / name]))
    for path in tried:
        try:
            if path.is_file():
                return path
        except OSError:  # A name that the file system cannot even look up.
            continue
    raise DataError(
        f"{key}: there is no such file: tried {' and '.join(str(path) for path in tried)}",
        file=config_path,
        line=line,
        mend="correct the path: it is relative to the config's folder or to the current folder",
    )


def check_data_files(loaded: LoadedConfig) -> DataFiles:
    """Find the data files of a run; `DataError` where one is missing or empty.

    The evaluation file is looked for only where the config evaluates at all.
    """
    evaluated = loaded.config.data.eval_file if loaded.config.evaluates else None
    config = loaded.config
    held_against = "schema_compliance_rate" in config.answer_metrics
    schema = config.data.answer_schema_file if held_against else None
    return DataFiles(
        train=_found(loaded, "data.train_file", loaded.config.data.train_file),
        eval=_found(loaded, "data.eval_file", evaluated) if evaluated is not None else None,
        answer_schema=None if schema is None else _schema(loaded, schema),
    )


def _schema(loaded: LoadedConfig, name: str) -> Path:
    """A file that holds a JSON object at least: whether it is a schema, the trainer checks."""
    key = "data.answer_schema_file"
    path = _found(loaded, key, name, mend="put a JSON Schema into it")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise DataError(
            f"{key}: {path} is not a JSON object",
            file=loaded.path,
            line=loaded.line_of(key),
            mend="put a JSON Schema into it",
        )
    return path


def _found(
    loaded: LoadedConfig, key: str, name: str, *, mend: str = "put one JSON object on each line"
) -> Path:
    line = loaded.line_of(key)
    path = resolve_file(name, loaded.path, key=key, line=line)
    try:
        empty = path.stat().st_size == 0
        path.open("rb").close()
    except OSError as error:
        raise DataError(
            f"{key}: {path} cannot be read: {error.strerror}",
            file=loaded.path,
            line=line,
            mend="check its permissions",
        ) from None
    if empty:
        raise DataError(
            f"{key}: {path} is empty",
            file=loaded.path,
            line=line,
            mend=mend,
        )
    return path
