"""`init`: a commented training.yaml and a first plan, from four questions."""

import json
import os
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kwanzaa_compute.cli.options import AsJson, MaxUsd, open_compute
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.cli.words import about, usd
from kwanzaa_compute.compute import Options
from kwanzaa_compute.compute.inputs import count_text
from kwanzaa_compute.config import load
from kwanzaa_compute.drivers.plugins import how_to_install
from kwanzaa_compute.errors import EXIT_OK, DataError, KwanzaaError, UsageError

BASE = "allenai/OLMo-7B-Instruct-hf"
CAP = Decimal(10)
SHOWN = 3
FIRST_LINE_BYTES = 1 << 20
_FORMATS = {
    "messages": "chat_jsonl",
    "prompt": "prompt_completion_jsonl",
    "text": "text_jsonl",
}
TEMPLATE = """\
# Made by `kwanzaa init`. What is not set here has a sensible default: `kwanzaa schema` lists all.
# Paths are relative to this file. Credentials never go here: they belong in the environment.

run:
  name: {name}
  seed: 42                # one seed, one result

model:
  base_model_id: {base}   # a repository on the Hugging Face Hub, or a folder here

adapter:
  method: qlora           # the frozen base in 4 bits, a LoRA adapter on top
  lora:
    r: 16                 # the adapter's size; 8 to 64 are usual
    alpha: 32

data:
  train_file: {train}
  format: {form}
  max_seq_length: 2048    # longer samples are left out, each one said; lower it to save memory

training:
  num_train_epochs: 3
  learning_rate: 0.0002
  per_device_train_batch_size: 1
  gradient_accumulation_steps: 16

checkpointing:
  save_steps: 100         # a lost machine costs at most so many steps
  save_total_limit: 3

compute:
  max_usd: {cap}          # the whole run, lost machines included, never costs more
"""

Target = Annotated[Path, Parameter(help="The file to write.")]
Base = Annotated[str | None, Parameter(name="--base-model", help="A repository, or a folder.")]
Train = Annotated[Path | None, Parameter(name="--train-file", help="Your data: JSON lines.")]
Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Take the defaults.")]


def init(
    target: Target = Path("training.yaml"),
    /,
    *,
    base_model: Base = None,
    train_file: Train = None,
    max_usd: MaxUsd = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Write a commented training.yaml from a few questions, and show a first plan.

    Asks for the base model, the data and a cap; the data's format is seen from its first line.
    What is given as an option is not asked. A file that exists is never overwritten.
    """
    screen = Screen(as_json=as_json)
    if target.exists():
        raise UsageError(f"{target} exists already", mend="name another file: kwanzaa init FILE")
    if not (yes or screen.can_ask):
        raise UsageError("nobody can be asked here", mend="add --yes for the defaults")
    asking = not yes
    base = base_model or _asked("base model", BASE, asking=asking)
    train = train_file or Path(_asked("data file", _guess(target.parent), asking=asking))
    form = detect_format(train)
    cap = max_usd or _amount(_asked("cap in dollars", str(CAP), asking=asking))
    text = TEMPLATE.format(
        name=json.dumps(_name(target)),
        base=json.dumps(_base(base, target.parent), ensure_ascii=False),
        train=json.dumps(os.path.relpath(train, target.parent), ensure_ascii=False),
        form=form,
        cap=cap,
    )
    _write(target, text)
    return _first_plan(screen, target, form)


def detect_format(path: Path) -> str:
    """The format that the first line of a data file has. Raises `DataError`."""
    try:
        with path.open("rb") as file:
            first = next((line for line in file if line.strip()), b"")[:FIRST_LINE_BYTES]
        row = json.loads(first.decode("utf-8-sig"))
    except OSError as error:
        mend = "kwanzaa init --train-file FILE; one JSON object a line"
        raise DataError(f"cannot be read: {error.strerror}", file=path, mend=mend) from error
    except (ValueError, RecursionError) as error:
        raise DataError("is not JSON", file=path, line=1, mend="one JSON object a line") from error
    for key, form in _FORMATS.items():
        if isinstance(row, dict) and key in row:
            count_text(path, form)
            return form
    mend = 'a chat is {"messages": [{"role": "user", "content": "..."}, ...]}'
    raise DataError("has neither messages, prompt nor text", file=path, line=1, mend=mend)


def _asked(what: str, default: str, *, asking: bool) -> str:
    if not asking:
        return default
    sys.stderr.write(f"{what} [{default}]: ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise UsageError("the terminal was closed; nothing was written", mend="kwanzaa init --yes")
    return line.strip() or default


def _guess(folder: Path) -> str:
    """The data file that is most likely meant: train.jsonl before others, here before data/."""
    found = sorted([*folder.glob("*.jsonl"), *folder.glob("data/*.jsonl")])
    named = [path for path in found if "train" in path.name]
    return str((named or found or [folder / "train.jsonl"])[0])


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or amount <= 0:
        raise UsageError(f"{text!r} is not an amount of dollars", mend="a number such as 12.50")
    return amount


def _base(name: str, folder: Path) -> str:
    """A folder that was named from here, as it is named from the config's own folder."""
    path = Path(name).expanduser()
    if not (path / "config.json").is_file():
        return name
    relative = os.path.relpath(path, folder)
    return relative if relative.startswith(".") else f"./{relative}"


def _name(target: Path) -> str:
    folder = target.absolute().parent.name
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in folder).strip("-")
    return plain[:40].strip("-") or "my-adapter"


def _write(target: Path, text: str) -> None:
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise UsageError(f"{target} cannot be written: {why}", mend="name another file") from error
    load(target)  # what we write, we can read


def _first_plan(screen: Screen, target: Path, form: str) -> int:
    compute = open_compute()
    here = compute.catalogue.providers
    try:
        candidates = compute.plan(target, Options()).plan.candidates[:SHOWN]
        trouble = "" if candidates else "no offer fits this run under this cap"
    except KwanzaaError as error:
        candidates, trouble = (), error.message
    plan = [
        {
            "provider": c.offer.provider,
            "gpu": c.offer.gpu.name,
            "usd": c.usd.expected,
            "hours": c.hours.expected,
        }
        for c in candidates
    ]
    if screen.as_json:
        screen.json({"config": str(target), "format": form, "plan": plan, "trouble": trouble})
        return EXIT_OK
    screen.write(f"wrote {target} (your data is {form})")
    away = [c.offer.provider for c in candidates if c.offer.provider not in here]
    for c in candidates:
        mark = "*" if c.offer.provider in away else ""
        where = f"{c.offer.provider}{mark} {c.offer.gpu.name}"
        screen.write(f"  {where:<32} {usd(c.usd.expected):>9}  {about(c.hours.expected)}")
    if away:
        screen.talk(f"* not installed here; {how_to_install(away)}")
    if trouble:
        screen.warn(f"no first plan: {trouble}")
    screen.talk(f"next: kwanzaa validate {target}; kwanzaa train {target}")
    return EXIT_OK
