"""The validation checklist of a config: each point holds or not, and what mends it."""

import importlib.util
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kwanzaa_compute.compute.inputs import base_folder, count_text
from kwanzaa_compute.compute.planning import Options, load_with
from kwanzaa_compute.config import LoadedConfig, check_data_files, notes_for
from kwanzaa_compute.errors import KwanzaaError, RunError
from kwanzaa_compute.runs.records import RunState
from kwanzaa_compute.store.folder import CHECKPOINTS

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute

T = TypeVar("T")
GIB = 1 << 30
FREE_GIB = 20
LEAST_FREE_GIB = 1
LEAST_VRAM_GIB = 12
TRIAL_STEPS = 10
HUB = ("huggingface.co", 443)
HUB_TIMEOUT_S = 5.0
TORCH_TIMEOUT_S = 120.0


class State(StrEnum):
    """How a point of a checklist stands. Only `FAIL` stands in the way."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One point: what was looked at, what was found, what mends it, and the exit code it means."""

    what: str
    state: State
    found: str
    mend: str = ""
    exit_code: int = 0


def passed(what: str, found: str) -> Check:
    """A point that holds."""
    return Check(what, State.OK, found)


def warned(what: str, found: str, mend: str) -> Check:
    """A point that somebody should look at."""
    return Check(what, State.WARN, found, mend)


def failed(what: str, error: KwanzaaError) -> Check:
    """A point that does not hold, because of `error`."""
    return Check(what, State.FAIL, error.message, error.mend, error.exit_code)


def exit_code(checks: list[Check]) -> int:
    """The exit code of a checklist: the gravest of its failures, 0 where there is none."""
    return max((check.exit_code or 1 for check in checks if check.state is State.FAIL), default=0)


def validate(
    compute: "Compute", config: Path, options: Options, *, reach: Callable[[], bool] | None = None
) -> list[Check]:
    """Every point of the checklist that can be looked at without training. Spends nothing.

    `reach` says whether the Hub answers; the default opens a connection to it.
    """
    loaded, check = _tried(
        "config", lambda: load_with(config, options), lambda c: f"{c.path} is valid"
    )
    if loaded is None:
        return [check]
    return [
        check,
        *(warned("config", note.message, f"see {note.key}") for note in notes_for(loaded)),
        *_data(loaded),
        *_base(compute, loaded, reach or hub_answers),
        _output(loaded),
        _store(compute, loaded),
        disk(Path(loaded.config.output_dir).expanduser().absolute()),
        *_gpu(compute, loaded),
        *_charts(loaded),
        _plan(compute, config, options),
    ]


def _tried(
    what: str, look: Callable[[], T], found: Callable[[T], str]
) -> tuple[T, Check] | tuple[None, Check]:
    try:
        value = look()
    except KwanzaaError as error:
        return None, failed(what, error)
    return value, passed(what, found(value))


def _data(loaded: LoadedConfig) -> list[Check]:
    files, check = _tried("data", lambda: check_data_files(loaded), lambda _: "found")
    if files is None:
        return [check]
    data = loaded.config.data
    named = (("training data", files.train), ("evaluation data", files.eval))
    checks = [
        _tried(
            what,
            lambda path=path: count_text(path, data.format, data.max_seq_length),  # type: ignore[misc]
            lambda size, path=path: f"{size.samples:,} samples in {path.name}",  # type: ignore[misc]
        )[1]
        for what, path in named
        if path is not None
    ]
    if files.eval is None:
        mend = "set data.eval_file to lines that are not trained on"
        checks.append(warned("evaluation data", "none: nobody will know how good it is", mend))
    return checks


def _base(compute: "Compute", loaded: LoadedConfig, reach: Callable[[], bool]) -> list[Check]:
    name = loaded.config.model.native_base_model_id
    try:
        folder = base_folder(loaded)
    except KwanzaaError as error:
        return [failed("base model", error)]
    if folder is not None:
        return [passed("base model", f"lies in {folder}")]
    checks = [passed("base model", f"{name}, from the Hugging Face Hub")]
    if reach():
        checks.append(passed("hub", f"{HUB[0]} answers"))
    else:
        mend = "check the network; a rented machine needs the Hub, this one only to train itself"
        checks.append(warned("hub", f"{HUB[0]} does not answer from here", mend))
    if compute.environment.get("HF_TOKEN"):
        checks.append(passed("token", "HF_TOKEN is set"))
    else:
        mend = "export HF_TOKEN=... where the base model is gated or private"
        checks.append(warned("token", "HF_TOKEN is not set: only public models can be had", mend))
    return checks


def hub_answers() -> bool:
    """Whether a connection to the Hub can be opened within a few seconds."""
    try:
        socket.create_connection(HUB, timeout=HUB_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _output(loaded: LoadedConfig) -> Check:
    folder = Path(loaded.config.output_dir).expanduser().absolute()
    why = unwritable(folder)
    if why:
        mend = "name another folder: artifacts.output_dir, or --output"
        return Check("output folder", State.FAIL, f"{folder}: {why}", mend, 2)
    return passed("output folder", f"{folder} can be written")


def unwritable(folder: Path) -> str:
    """Why nothing can be written into a folder, or where it would be made; "" where it can."""
    here = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=here) as file:
            file.write(b"kwanzaa")
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def _store(compute: "Compute", loaded: LoadedConfig) -> Check:
    root = compute.store_root(loaded.config.compute.store)
    name = f"validate-{secrets.token_hex(6)}"
    try:
        store = compute.open_store(root)
        store.put(name, b"kwanzaa")
        try:
            held = store.get(name) == b"kwanzaa"
        finally:
            store.delete(name)
    except KwanzaaError as error:
        return failed("store", error)
    if not held:
        return Check("store", State.FAIL, f"{root} gives back other bytes", "--store elsewhere", 7)
    return passed("store", f"{root} can be written and read")


def disk(folder: Path) -> Check:
    """Free space where `folder` is, or would be made."""
    here = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(here).free / GIB
    found, mend = f"{free:.0f} GiB free at {here}", "free some space, or choose another disk"
    if free < LEAST_FREE_GIB:
        return Check("disk", State.FAIL, f"{free:.1f} GiB free at {here}", mend, 2)
    return warned("disk", found, mend) if free < FREE_GIB else passed("disk", found)


def _gpu(compute: "Compute", loaded: LoadedConfig) -> list[Check]:
    try:
        gpus = [offer.gpu for offer in compute.provider("local").offers()]
    except KwanzaaError as error:
        return [warned("GPU here", error.message, error.mend)]
    gpus = [gpu for gpu in gpus if gpu.compute_capability > (0, 0)]
    if not gpus:
        return [warned("GPU here", "none: this run would be slow", "kwanzaa plan CONFIG rents one")]
    best = max(gpus, key=lambda gpu: gpu.vram_gib)
    words = f"{best.name}, {best.vram_gib:.0f} GiB"
    mend = "kwanzaa plan CONFIG says what fits"
    enough = best.vram_gib >= LEAST_VRAM_GIB
    checks = [passed("GPU here", words) if enough else warned("GPU here", words, mend)]
    if best.bf16:
        checks.append(passed("bf16", f"{best.name} computes in bf16"))
    elif loaded.config.run.mixed_precision == "bf16":
        checks.append(warned("bf16", f"{best.name} has no bf16: fp16 is used", "another GPU"))
    return [*checks, _cuda()]


def _cuda() -> Check:
    """Whether torch sees the GPU; asked in a process of its own, for torch is no part of us."""
    if importlib.util.find_spec("torch") is None:
        return warned("CUDA", "torch is not here", 'pip install "kwanzaa-compute[local]"')
    code = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"
    try:
        words = [sys.executable, "-c", code]
        child = subprocess.run(words, capture_output=True, timeout=TORCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return warned("CUDA", "torch does not start", "look at the driver: nvidia-smi")
    if child.returncode:
        return warned("CUDA", "torch sees no GPU", "install a build of torch for your CUDA")
    return passed("CUDA", "torch sees the GPU")


def _charts(loaded: LoadedConfig) -> list[Check]:
    if not loaded.config.writes_tensorboard:
        return []
    if importlib.util.find_spec("tensorboard"):
        return [passed("TensorBoard", "is installed")]
    return [warned("TensorBoard", "is not here: charts are made, not shown", "pip install it")]


def _plan(compute: "Compute", config: Path, options: Options) -> Check:
    try:
        planned = compute.plan(config, options)
        best = compute.buyable(planned)[0]
    except KwanzaaError as error:
        return failed("plan", error)
    where = f"{best.offer.provider} {best.offer.gpu.name}"
    return passed("plan", f"best is {where}, ${best.usd.expected:.2f} for the whole run")


NOT_TRIED = (
    warned("test run", "not tried: ten steps", "kwanzaa validate CONFIG --on-gpu"),
    warned("checkpoints", "not tried: saved and read back", "kwanzaa validate CONFIG --on-gpu"),
    warned("base unchanged", "not tried", "kwanzaa validate CONFIG --on-gpu"),
)
"""What only a run can show."""


def trial(
    compute: "Compute", config: Path, options: Options, say: Callable[[str], None]
) -> list[Check]:
    """Ten real steps on the provider that the options choose, to the adapter's download.

    Launches a machine: what costs money needs a cap, as any run does.
    """
    with tempfile.TemporaryDirectory(prefix="kwanzaa-validate-") as folder:
        try:
            run = compute.train(config, ten_steps(options, folder), say=say)
            say(f"run {run.id}: {TRIAL_STEPS} steps")
            receipt = run.wait()
            if receipt.state is not RunState.DONE:
                show = f"kwanzaa show {run.id}; kwanzaa logs {run.id}"
                raise RunError(f"run {run.id} ended {receipt.state}: {receipt.reason}", mend=show)
            run.download()
        except KwanzaaError as error:
            return [failed("test run", error)]
    done = run.done
    summary: Mapping[str, object] = done.summary if done else {}
    cost = f"{summary.get('steps')} steps for ${receipt.usd}, adapter fetched and checked"
    saved = {item.path.split("/")[1] for item in run.folder.store.list(CHECKPOINTS)}
    return [
        passed("test run", cost),
        passed("checkpoints", ", ".join(sorted(saved)))
        if saved
        else Check("checkpoints", State.FAIL, "none was saved", f"kwanzaa logs {run.id}", 1),
        passed("base unchanged", f"sha256 {summary['base_sha256']}")
        if summary.get("base_sha256")
        else warned("base unchanged", "not looked at", "set verify_base_weights_unchanged: true"),
    ]


def ten_steps(options: Options, folder: str) -> Options:
    """The options of a trial: ten steps, a checkpoint at the fifth, its adapter in `folder`."""
    overrides = {
        **options.overrides,
        "training.max_steps": TRIAL_STEPS,
        "checkpointing.save_strategy": "steps",
        "checkpointing.save_steps": TRIAL_STEPS // 2,
        "artifacts.output_dir": folder,
    }
    return replace(options, overrides=overrides)
