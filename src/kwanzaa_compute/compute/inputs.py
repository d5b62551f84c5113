"""What goes up before a run: the config, its data, and a base model that is a folder here."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.config import DataFiles, LoadedConfig
from kwanzaa_compute.errors import ConfigError, DataError
from kwanzaa_compute.market.workload import TextSize
from kwanzaa_compute.store import RunFolder, Store
from kwanzaa_compute.store.folder import (
    ANSWER_SCHEMA,
    BASE_MODEL,
    CONFIG,
    EVAL_DATA,
    TRAIN_DATA,
    USER_YAML,
    member_url,
)
from kwanzaa_compute.store.objects import relative_paths

if TYPE_CHECKING:
    from kwanzaa_compute.compute.planning import Planned

MOST_PROBLEMS = 10
MOST_LINE_BYTES = 64 << 20
MOST_CHARACTERS_A_TOKEN = 16
"""No tokenizer writes text with more characters a token than this, on average."""

ROLES = ("system", "user", "assistant")
_BOM = b"\xef\xbb\xbf"


def count_text(path: Path, data_format: str, max_seq_length: int | None = None) -> TextSize:
    """Reads a JSONL file through, once, and counts it.

    Raises `DataError` with file and line for every row (ten at most) that the trainer could not
    use: better now than on a machine that bills. With `max_seq_length` (tokens), also where most
    rows cannot be that short with any tokenizer.
    """
    rows = characters = messages = 0
    problems: list[DataError] = []
    too_long: list[int] = []
    limit = (max_seq_length or 0) * MOST_CHARACTERS_A_TOKEN
    for line, row in _rows(path):
        try:
            texts = _texts(row, data_format)
        except ValueError as error:
            problems.append(DataError(str(error), file=path, line=line))
            if len(problems) == MOST_PROBLEMS:
                break
            continue
        size = sum(map(len, texts))
        rows, messages, characters = rows + 1, messages + len(texts), characters + size
        if limit and size > limit:
            too_long.append(line)
    if problems:
        raise _together(problems, data_format)
    if not rows:
        raise DataError("there is nothing to train on", file=path, mend="one JSON object a line")
    if 2 * len(too_long) > rows:
        raise DataError(
            f"{len(too_long)} of {rows} samples, this one first, are too long for"
            f" data.max_seq_length = {max_seq_length} tokens",
            file=path,
            line=too_long[0],
            mend="raise data.max_seq_length, or shorten the samples",
        )
    return TextSize(rows, characters, messages)


def _together(problems: list[DataError], data_format: str) -> DataError:
    """All problems of a file as one error, which stands at the first one's line."""
    error = DataError("\n".join(problem.message for problem in problems), mend=_MEND[data_format])
    error.file, error.line = problems[0].file, problems[0].line
    return error


_MEND = {
    "chat_jsonl": 'a line of chat_jsonl: {"messages": [{"role": "user", "content": "..."},'
    ' {"role": "assistant", "content": "..."}]}',
    "prompt_completion_jsonl": 'a line of prompt_completion_jsonl: {"prompt": "...",'
    ' "completion": "..."}',
    "text_jsonl": 'a line of text_jsonl: {"text": "..."}',
}


def _rows(path: Path) -> Iterator[tuple[int, "dict[str, Any] | ValueError"]]:
    """(line number, object, or what is wrong with the line) of every line that is not blank."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(MOST_LINE_BYTES), b""), 1):
                if len(line) == MOST_LINE_BYTES:
                    mebibytes = MOST_LINE_BYTES >> 20
                    yield number, ValueError(f"is longer than {mebibytes} MiB: one sample a line")
                    return
                content = line.removeprefix(_BOM) if number == 1 else line
                if content.strip():
                    yield number, _row(content)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise DataError(f"cannot be read: {why}", file=path, mend="check the file") from error


def _row(line: bytes) -> "dict[str, Any] | ValueError":
    try:
        row = json.loads(line.decode("utf-8"))
        if b"\\u" in line:
            # Half of an emoji, cut off: valid JSON, and no tokenizer takes it.
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        return ValueError("is not UTF-8 text: save the file as UTF-8")
    except UnicodeEncodeError:
        return ValueError("holds half a character (a lone \\ud800 to \\udfff)")
    except RecursionError:
        return ValueError("is not a sample: nested too deeply")
    except ValueError as error:
        return ValueError(f"is not JSON: {getattr(error, 'msg', 'a number of too many digits')}")
    return row if isinstance(row, dict) else ValueError("is not a JSON object")


def _texts(row: "dict[str, Any] | ValueError", data_format: str) -> list[str]:
    """The texts of a sample; ValueError says what the trainer would not take."""
    if isinstance(row, ValueError):
        raise row
    match data_format:
        case "chat_jsonl":
            return _chat(row.get("messages"))
        case "prompt_completion_jsonl":
            return [_text(row, "prompt"), _text(row, "completion")]
        case _:
            return [_text(row, "text")]


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"needs {key!r}: a text that is not empty")
    return value


def _chat(messages: Any) -> list[str]:
    if not isinstance(messages, list) or not messages:
        raise ValueError("needs 'messages': a list of messages, not empty")
    answers = 0
    asked = False
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise ValueError(f"message {number} needs a role and a content")
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise ValueError(f"message {number}: the role must be system, user or assistant")
        if not isinstance(content, str):
            raise ValueError(f"message {number}: the content must be text")
        asked = asked or role == "user"
        if role == "assistant":
            answers += 1
            if not content.strip():
                raise ValueError(f"message {number}: the assistant's answer is empty")
            if not asked:
                raise ValueError(f"message {number}: the assistant speaks before any user")
    if not answers:
        raise ValueError("has no assistant's answer to learn from")
    return [message["content"] for message in messages]


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


def send(store: Store, planned: "Planned", open_store: Callable[[str], Store]) -> None:
    """Puts everything that a machine needs of us into the run's folder, or into its members'.

    `open_store` opens the members' folders.
    """
    if not planned.members:
        upload(store, planned.loaded, planned.files, base_folder(planned.loaded))
        return
    for name, work in planned.members.items():
        member = open_store(member_url(store.url, name))
        upload(member, work.loaded, work.files, base_folder(work.loaded))
    RunFolder(store).put_member_names(tuple(planned.members))


def upload(store: Store, loaded: LoadedConfig, files: DataFiles, base: Path | None) -> None:
    """Puts everything that a machine needs of us into the run's folder."""
    store.put(CONFIG, loaded.config.to_json())
    store.put(USER_YAML, loaded.raw)
    store.upload(files.train, TRAIN_DATA)
    if files.eval is not None:
        store.upload(files.eval, EVAL_DATA)
    if files.answer_schema is not None:
        store.upload(files.answer_schema, ANSWER_SCHEMA)
    if base is not None:
        for path, name in relative_paths(base):
            store.upload(path, f"{BASE_MODEL}/{name}")
