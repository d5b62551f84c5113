"""Data files are found beside the config or in the current folder, or named in the error."""

from pathlib import Path

import pytest

from kwanzaa_compute.config import DataFiles, LoadedConfig, check_data_files, load
from kwanzaa_compute.errors import DataError

TEXT = "model:\n  base_model_id: a\ndata:\n  train_file: train.jsonl\n  eval_file: eval.jsonl\n"


def config_in(folder: Path, more: str = "") -> LoadedConfig:
    folder.mkdir(exist_ok=True)
    path = folder / "training.yaml"
    path.write_text(TEXT + more)
    return load(path)


def test_files_beside_the_config_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = config_in(tmp_path / "configs")
    for folder in (tmp_path / "configs", tmp_path):
        (folder / "train.jsonl").write_text("{}\n")
    (tmp_path / "eval.jsonl").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    assert check_data_files(loaded) == DataFiles(
        train=tmp_path / "configs" / "train.jsonl", eval=tmp_path / "eval.jsonl"
    )


ASKS_FOR_THE_SCHEMA = (
    "  answer_schema_file: s.json\nevaluation:\n  metrics: [schema_compliance_rate]\n"
)


def test_the_schema_of_answers_is_found_where_replies_are_held_against_it(tmp_path: Path) -> None:
    for name in ("train.jsonl", "eval.jsonl", "s.json"):
        (tmp_path / name).write_text("{}\n")
    loaded = config_in(tmp_path, ASKS_FOR_THE_SCHEMA)
    assert check_data_files(loaded).answer_schema == tmp_path / "s.json"
    loaded = config_in(tmp_path, "  answer_schema_file: s.json\n")
    assert check_data_files(loaded).answer_schema is None


def test_a_schema_of_answers_that_is_no_object_is_refused(tmp_path: Path) -> None:
    for name in ("train.jsonl", "eval.jsonl", "s.json"):
        (tmp_path / name).write_text("[]\n")
    with pytest.raises(DataError, match="not a JSON object"):
        check_data_files(config_in(tmp_path, ASKS_FOR_THE_SCHEMA))


def test_a_missing_file_names_its_line_and_both_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = config_in(tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        check_data_files(loaded)
    assert caught.value.line == 4
    assert str(tmp_path / "configs" / "train.jsonl") in str(caught.value)
    assert str(tmp_path / "train.jsonl") in str(caught.value)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    loaded = config_in(tmp_path)
    (tmp_path / "train.jsonl").touch()
    with pytest.raises(DataError, match="is empty"):
        check_data_files(loaded)


def test_a_folder_is_no_data_file(tmp_path: Path) -> None:
    loaded = config_in(tmp_path)
    (tmp_path / "train.jsonl").mkdir()
    with pytest.raises(DataError, match="there is no such file"):
        check_data_files(loaded)


def test_an_evaluation_file_is_not_looked_for_where_nothing_is_evaluated(tmp_path: Path) -> None:
    loaded = config_in(tmp_path, "evaluation:\n  strategy: no\n")
    (tmp_path / "train.jsonl").write_text("{}\n")
    assert check_data_files(loaded).eval is None


def test_a_file_that_cannot_be_looked_up_is_refused(tmp_path: Path) -> None:
    loaded = config_in(tmp_path)
    path = tmp_path / "training.yaml"
    path.write_text(TEXT.replace("train.jsonl", "t" * 900))
    with pytest.raises(DataError):
        check_data_files(load(path))
    assert loaded.config.evaluates
