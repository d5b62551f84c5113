"""Every mistake is answered with its line and with what to do."""

from pathlib import Path

import pytest

from kwanzaa_compute.config import load, load_config, parse
from kwanzaa_compute.errors import EXIT_OK, ConfigError

HEAD = "model:\n  base_model_id: org/base\ndata:\n  train_file: train.jsonl\n"
FAKE_HF = "hf_" + "A1b2" * 8
FAKE_AWS = "AKIA" + "ABCDEFGH12345678"

# name, text of the whole file, line of the first problem, what the message says
WHOLE_FILES = [
    ("empty", "", 1, "is empty"),
    ("blank", " \n\n", 1, "is empty"),
    ("comments only", "# nothing\n# at all\n", 1, "only comments"),
    ("list", "- a\n- b\n", 1, "must be a mapping of sections"),
    ("scalar", "hello\n", 1, "must be a mapping of sections"),
    ("open quote", 'run:\n  name: "abc\n', 3, "is not valid YAML"),
    ("tab", "run:\n\tname: a\n", 2, "is not valid YAML"),
    ("bad indentation", "run:\n  name: a\n seed: 1\n", 3, "is not valid YAML"),
    ("nul", "run:\n  name: a\x00\n", 2, "a character that YAML does not allow"),
    ("no model", "data:\n  train_file: t\n", 1, "model.base_model_id: is missing"),
    ("no train file", "model:\n  base_model_id: a\ndata:\n", 3, "data.train_file: is missing"),
    ("second document", HEAD + "---\nrun: {}\n", 5, "second document"),
    ("alias", "run: &a {seed: 1}\ntraining: *a\n", 1, "anchor or alias"),
    ("python tag", "run: !!python/object/apply:os.system [ls]\n", 1, "uses a tag"),
    ("plain tag", "run:\n  seed: !!int 3\n", 2, "uses a tag"),
    ("deep", "run: " + "{a: " * 50, 1, "nested deeper than"),
    ("too many values", "run: [" + "1, " * 30_000 + "1]", 1, "more than 20000 values"),
    ("complex key", "? [a, b]\n: 1\n", 1, "a key that is not plain text"),
    ("two mappings", "run: {} {}\n", 1, "is not valid YAML"),
]

HARDWARE_AND_BATCH = (
    "hardware: {num_gpus: 2}\n"
    "training: {gradient_accumulation_steps: 8, effective_batch_size: 16}\n"
)

# name, text after the four lines of HEAD, line, phrase
ENTRIES = [
    (
        "unknown section",
        "trainning:\n  seed: 1\n",
        5,
        "trainning: unknown key; did you mean training?",
    ),
    ("typo", "training:\n  learning_rat: 1\n", 6, "did you mean learning_rate?"),
    (
        "deep typo",
        "adapter:\n  lora:\n    alhpa: 3\n",
        7,
        "adapter.lora.alhpa: unknown key; did you mean alpha?",
    ),
    ("wrong section", "run:\n  max_steps: 3\n", 6, "it belongs in training.max_steps"),
    ("key at the top", "save_steps: 3\n", 5, "run.save_steps or checkpointing.save_steps"),
    ("nothing like it", "run:\n  zzz: 3\n", 6, "valid here: name, output_dir, seed"),
    ("merge key", "run:\n  <<: {seed: 1}\n", 6, "unknown key"),
    ("number key", "run:\n  3: 3\n", 6, "run.3: unknown key"),
    ("dotted key", "run.seed: 3\n", 5, "run.seed: unknown key"),
    (
        "twice",
        "run:\n  seed: 1\n  name: a\n  seed: 2\n",
        8,
        "run.seed: is set twice, first on line 6",
    ),
    (
        "section twice",
        "run:\n  seed: 1\nrun:\n  name: a\n",
        7,
        "run: is set twice, first on line 5",
    ),
    ("section is a number", "run: 3\n", 5, "run: must be a section"),
    ("section is a list", "run:\n- seed\n", 5, "run: must be a section"),
    ("text for a number", "run:\n  seed: many\n", 6, "run.seed: must be a whole number"),
    (
        "quoted number",
        'training:\n  learning_rate: "2e-4"\n',
        6,
        "must be a number, without quotes",
    ),
    ("fraction for a count", "run:\n  save_steps: 1.5\n", 6, "must be a whole number"),
    ("true for a number", "run:\n  seed: true\n", 6, "must be a whole number"),
    ("no value", "run:\n  seed:\n", 6, "run.seed: has no value"),
    (
        "number for text",
        "artifacts:\n  metadata:\n    dataset_version: 1.0\n",
        7,
        "put quotes around it",
    ),
    ("needed section twice", "data:\n  packing: maybe\n", 5, "data: is set twice"),
    ("flag", "run:\n  deterministic: maybe\n", 6, "must be true or false"),
    ("rate too high", "training:\n  learning_rate: 1\n", 6, "must be less than 1"),
    ("rate zero", "training:\n  learning_rate: 0\n", 6, "must be greater than 0"),
    ("rate nan", "training:\n  learning_rate: .nan\n", 6, "must be a finite number"),
    ("rate infinite", "training:\n  adam_epsilon: 1e999\n", 6, "must be a finite number"),
    ("rank zero", "adapter:\n  lora:\n    r: 0\n", 7, "adapter.lora.r: must be at least 1"),
    ("rank huge", "adapter:\n  lora:\n    r: 1025\n", 7, "must be at most 1024"),
    ("dropout one", "adapter:\n  lora:\n    dropout: 1.0\n", 7, "must be less than 1"),
    (
        "precision",
        "run:\n  mixed_precision: bf17\n",
        6,
        "must be bf16, fp16 or no (did you mean bf16?)",
    ),
    ("optimizer", "training:\n  optim: paged_adam_8bit\n", 6, "did you mean paged_adamw_8bit?"),
    (
        "schedule",
        "training:\n  lr_scheduler_type: polynomial\n",
        6,
        "must be linear, cosine, constant",
    ),
    (
        "metric",
        "evaluation:\n  metrics:\n  - loss\n  - bleu\n",
        8,
        "evaluation.metrics.1: must be loss",
    ),
    (
        "modules",
        "adapter:\n  lora:\n    target_modules: [1]\n",
        7,
        "a list of layer names, or the word all-linear",
    ),
    ("no modules", "adapter:\n  lora:\n    target_modules: []\n", 7, "a list of layer names"),
    ("greater", "checkpointing:\n  greater_is_better: true\n", 6, "must be false"),
    ("name with a slash", "run:\n  name: a/b\n", 6, "may hold up to 100 letters"),
    ("empty path", 'run:\n  output_dir: ""\n', 6, "must not be empty"),
    ("path out", "artifacts:\n  include_files: [../x]\n", 6, "a file name inside the artifact"),
    ("control character", 'run:\n  output_dir: "a\\nb"\n', 6, "without control characters"),
    ("money", "compute:\n  max_usd: $5\n", 6, "an amount such as 12.50"),
    ("negative money", "compute:\n  max_usd: -5\n", 6, "must be greater than 0"),
    ("money true", "compute:\n  max_usd: true\n", 6, "an amount such as 12.50"),
    ("no provider", "compute:\n  provider: []\n", 6, "the name of a provider"),
    ("label", "artifacts:\n  metadata:\n    team: {a: 1}\n", 7, "must be text, a number"),
    ("language", "publishing:\n  metadata:\n    language: 3\n", 7, "a language code such as en"),
    ("currency", "cost_estimate:\n  currency: dollars\n", 6, "three letters, such as USD"),
    (
        "two save_steps",
        "run:\n  save_steps: 7\ncheckpointing:\n  save_steps: 8\n",
        6,
        "(run.save_steps on line 6 and checkpointing.save_steps on line 8)",
    ),
    (
        "two eval steps",
        "run:\n  eval_steps: 7\nevaluation:\n  steps: 8\n",
        6,
        "(run.eval_steps on line 6 and evaluation.steps on line 8)",
    ),
    (
        "two limits",
        "run:\n  save_total_limit: 1\ncheckpointing:\n  save_total_limit: 2\n",
        6,
        "the same option twice",
    ),
    (
        "two folders",
        "run:\n  output_dir: a\nartifacts:\n  output_dir: b\n",
        6,
        "artifacts.output_dir on line 8",
    ),
    (
        "batch",
        "training:\n  gradient_accumulation_steps: 8\n  effective_batch_size: 16\n",
        7,
        "per_device_train_batch_size 1 x gradient_accumulation_steps 8 = 8",
    ),
    (
        "batch on two GPUs",
        HARDWARE_AND_BATCH,
        6,
        "all GPUs share these",
    ),
    (
        "batch that cannot be split",
        "training:\n  per_device_train_batch_size: 3\n  effective_batch_size: 16\n",
        7,
        "is 16, but",
    ),
    (
        "4 bits without qlora",
        "adapter:\n  method: lora\n  quantization:\n    load_in_4bit: true\n",
        8,
        "but adapter.method is lora",
    ),
    (
        "tracker on and off",
        "run:\n  report_to: [wandb]\nmonitoring:\n  wandb:\n    enabled: false\n",
        6,
        "monitoring.wandb.enabled on line 9",
    ),
    ("key of a service", "publishing:\n  hf_token: abc\n", 6, "no place for a credential"),
    (
        "key in free labels",
        "artifacts:\n  metadata:\n    api-key: abc\n",
        7,
        "no place for a credential",
    ),
    ("token as a value", f"run:\n  name: {FAKE_HF}\n", 6, "looks like a credential"),
    ("token in a comment", f"# {FAKE_HF}\n", 5, "looks like a credential"),
    ("token as a key", f"run:\n  {FAKE_AWS}: 1\n", 6, "looks like a credential"),
    (
        "password in a URL",
        "compute:\n  store: s3://user:passw0rd@bucket\n",
        6,
        "looks like a credential",
    ),
    (
        "signed URL",
        "compute:\n  store: https://x.blob.core.windows.net/c?sp=rw&sig=abcdefghij%3D\n",
        6,
        "looks like a credential",
    ),
]


def refused(raw: bytes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(raw, Path("training.yaml"))
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "phrase"), [pytest.param(*case[1:], id=case[0]) for case in WHOLE_FILES]
)
def test_a_file_that_is_no_config_is_refused_at_its_line(text: str, line: int, phrase: str) -> None:
    error = refused(text.encode())
    assert phrase in str(error)
    assert error.line == line
    assert str(error).startswith(f"training.yaml:{line}: ")


@pytest.mark.parametrize(
    ("text", "line", "phrase"), [pytest.param(*case[1:], id=case[0]) for case in ENTRIES]
)
def test_a_wrong_entry_is_refused_at_its_line(text: str, line: int, phrase: str) -> None:
    error = refused((HEAD + text).encode())
    assert phrase in str(error)
    assert error.line == line
    assert error.exit_code != EXIT_OK


def test_all_problems_of_a_file_are_reported_at_once_in_its_order() -> None:
    text = (
        "run:\n  seed: -1\n  seed: 3\n  sede: 1\n"
        "training:\n  learning_rate: 2\nrun2: 1\n"
        "adapter:\n  method: lora\n  quantization:\n    load_in_4bit: true\n"
    )
    lines = str(refused((HEAD + text).encode())).splitlines()
    starts = [line.split(": ")[:2] for line in lines[:-1]]
    assert starts == [
        ["training.yaml:6", "run.seed"],
        ["training.yaml:7", "run.seed"],
        ["training.yaml:8", "run.sede"],
        ["training.yaml:10", "training.learning_rate"],
        ["training.yaml:11", "run2"],
        ["training.yaml:15", "adapter.quantization.load_in_4bit"],
    ]
    assert "kwanzaa schema" in lines[-1]


def test_a_wrong_value_is_not_blamed_on_the_keys_twin() -> None:
    error = refused((HEAD + "run:\n  save_steps: 0\n").encode())
    assert error.message == "training.yaml:6: run.save_steps: must be at least 1"


def test_a_conflict_is_not_invented_from_a_value_that_is_wrong_itself() -> None:
    text = "training:\n  per_device_train_batch_size: two\n  effective_batch_size: 32\n"
    text += "  gradient_accumulation_steps: 16\n"
    error = refused((HEAD + text).encode())
    assert "effective_batch_size" not in str(error)


def test_a_file_of_mistakes_is_answered_briefly() -> None:
    text = "".join(f"key{number}: 1\n" for number in range(300))
    error = refused((HEAD + text).encode())
    assert len(str(error).splitlines()) < 60
    assert "further problems" in str(error)


@pytest.mark.parametrize(
    "entry",
    [
        f"run:\n  name: {FAKE_HF}\n",
        f"run:\n  seed: {FAKE_HF}\n",
        f"publishing:\n  token: {FAKE_HF}\n",
        f"{FAKE_HF}: 3\n",
        f"compute:\n  max_usd: {FAKE_HF}\n",
        f"training:\n  optim: {FAKE_HF}\n",
        f"artifacts:\n  metadata:\n    label: {FAKE_HF}\n",
        f'run: "{FAKE_HF}\n',
    ],
)
def test_a_credential_is_never_repeated_in_an_error(entry: str) -> None:
    error = refused((HEAD + entry).encode())
    shown = str(error) + repr(error) + repr(error.__cause__)
    assert "A1b2A1b2" not in shown


@pytest.mark.parametrize("value", ["sup3r-s3cret", "x"])
def test_a_value_beside_a_credentials_key_is_never_repeated(value: str) -> None:
    error = refused((HEAD + f"publishing:\n  api_key: {value}\n").encode())
    assert "api_key" in str(error)
    assert f": {value}" not in str(error)
    assert "environment" in str(error)


def test_text_that_is_not_utf_8_is_refused_at_its_line() -> None:
    error = refused(HEAD.encode() + b"run:\n  name: caf\xe9\n")
    assert error.line == 6
    assert "save the file as UTF-8" in str(error)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "training.yaml"
    path.write_bytes(b"#" * (2 * 1024 * 1024))
    with pytest.raises(ConfigError, match="is larger than 1048576 bytes"):
        load(path)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load_config(tmp_path / "training.yaml")


def test_a_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a file"):
        load_config(tmp_path)


def test_a_name_that_no_file_can_have_is_one_clear_error() -> None:
    with pytest.raises(ConfigError):
        load_config(Path("a\x00b"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(Path("a" * 5000))
