"""What goes up before a run: the config, its data, and a base model that is a folder here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kwanzaa_compute.config import DataFiles, LoadedConfig
from kwanzaa_compute.errors import ConfigError, DataError
from kwanzaa_compute.market.workload import TextSize
from kwanzaa_compute.store import Store
from kwanzaa_compute.store.folder import BASE_MODEL, CONFIG, EVAL_DATA, TRAIN_DATA, USER_YAML
from kwanzaa_compute.store.objects import relative_paths

MOST_PROBLEMS = 10


def count_text(path: Path, data_format: str) -> TextSize:
    """Reads a JSONL file through and counts it.

    Raises `DataError` with file and line for every row (ten at most) that the trainer could not
    use: better now than on a machine that bills.
    """
    rows = characters = messages = 0
    problems: list[DataError] = []
    for line, row in _rows(path):
        texts = row if isinstance(row, DataError) else _texts(row, data_format, path, line)
        if isinstance(texts, DataError):
            problems.append(texts)
            if len(problems) == MOST_PROBLEMS:
                break
            continue
        rows, messages = rows + 1, messages + len(texts)
        characters += sum(map(len, texts))
    if problems:
        raise DataError(
            "\n".join(str(problem) for problem in problems),
            mend=f"each line must be one JSON object in the format {data_format}",
        )
    if not rows:
        raise DataError("there is nothing to train on", file=path, mend="one JSON object a line")
    return TextSize(rows, characters, messages)


def _rows(path: Path) -> Iterator[tuple[int, "dict[str, Any] | DataError"]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError:
                yield number, DataError("is not UTF-8", file=path, line=number)
            except (ValueError, RecursionError) as error:
                words = getattr(error, "msg", "nested too deeply")
                yield number, DataError(f"is not JSON: {words}", file=path, line=number)
            else:
                wrong = DataError("is not a JSON object", file=path, line=number)
                yield number, row if isinstance(row, dict) else wrong


def _texts(row: dict[str, Any], data_format: str, path: Path, line: int) -> "list[str] | DataError":
    match data_format:
        case "chat_jsonl":
            messages = row.get("messages")
            if isinstance(messages, list) and all(isinstance(m, dict) for m in messages):
                texts = [m.get("content") for m in messages]
                if any(m.get("role") == "assistant" for m in messages) and _strings(texts):
                    return texts
            wanted = 'messages: [{"role": ..., "content": ...}, ...] with an assistant\'s answer'
        case "prompt_completion_jsonl":
            texts = [row.get("prompt"), row.get("completion")]
            if _strings(texts) and texts[1]:
                return texts
            wanted = "prompt and completion, both text"
        case _:
            texts = [row.get("text")]
            if _strings(texts) and texts[0]:
                return texts
            wanted = "text"
    return DataError(f"needs {wanted}", file=path, line=line)


def _strings(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def base_folder(loaded: LoadedConfig) -> Path | None:
    """The folder of a base model that lies on this machine; None where its id is the Hub's.

    An id that looks like a path, and is none, is an error here rather than a download later.
    """
    name = loaded.config.model.base_model_id
    here = [loaded.path.parent / name, Path(name)]
    for folder in here:
        if (folder / "config.json").is_file():
            return folder.resolve()
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ConfigError(
            f"model.base_model_id: there is no model (config.json) at {name}",
            file=loaded.path,
            line=loaded.line_of("model.base_model_id"),
            mend="name a folder that holds one, or a repository: allenai/OLMo-7B-Instruct-hf",
        )
    return None


def upload(store: Store, loaded: LoadedConfig, files: DataFiles, base: Path | None) -> None:
    """Puts everything that a machine needs of us into the run's folder."""
    store.put(CONFIG, loaded.config.to_json())
    store.put(USER_YAML, loaded.raw)
    store.upload(files.train, TRAIN_DATA)
    if files.eval is not None:
        store.upload(files.eval, EVAL_DATA)
    if base is not None:
        for path, name in relative_paths(base):
            store.upload(path, f"{BASE_MODEL}/{name}")
