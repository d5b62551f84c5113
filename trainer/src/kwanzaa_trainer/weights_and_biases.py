"""Weights & Biases: curves by its own library, offline unless this machine was given a key.

Nothing in here can stop the training: where the library is missing or its server cannot be had,
that is said once. Every attempt of a run writes to one and the same run there.
"""

import os
import re
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_trainer.journal import Journal

KEY = "WANDB_API_KEY"
"""Makes it online. A rented machine has it only where `KWANZAA_WANDB_API_KEY` was set."""
PATIENCE_S = 20.0
"""How long its server may take to answer at the beginning, and its library at the end."""
_PRIVATE = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "save_code": False,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
"""Curves and config are told, and nothing of this machine."""


class WeightsAndBiases:
    """One attempt's part of a run at W&B."""

    name = "wandb"

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        run_id: str,
        journal: Journal,
        environ: MutableMapping[str, str] = os.environ,
    ) -> None:
        """`folder` is where its files go; they are those of `run_id` there as well."""
        self._config = config
        self._folder = folder
        self._id = re.sub(r"[^A-Za-z0-9_-]", "-", run_id)[:64]
        self._journal = journal
        self._environ = environ
        self._run: Any = None
        self._gave_up = False

    def add(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve.

        The step is a value of its own: W&B's counter never goes back, and a run that resumes does.
        """
        if self._run is None and not self._gave_up:
            self._begin()
        if self._run is not None:
            self._guarded(
                lambda: self._run.log(
                    {"step": step} | {f"{kind}/{name}": value for name, value in values.items()}
                )
            )

    def files(self) -> Iterator[tuple[Path, str]]:
        """The files that `wandb sync` takes: what a lost connection kept back can be sent later."""
        for path in sorted(self._folder.glob("wandb/*run-*/*.wandb")):
            yield path, f"{path.parent.name}/{path.name}"

    def close(self) -> None:
        """Ends the run; what its server has not taken by then stays in the files."""
        if self._run is None:
            return
        import wandb

        run, self._run = self._run, None

        def end() -> None:
            run.finish()
            wandb.teardown()  # only when its service has ended is everything in the files

        # In a thread that nobody waits for at the end: a server may never answer.
        ending = threading.Thread(target=lambda: self._guarded(end), daemon=True)
        ending.start()
        ending.join(PATIENCE_S)
        if ending.is_alive():
            self._say("its server has not taken everything: wandb sync sends the rest")

    def _begin(self) -> None:
        self._environ.setdefault("WANDB_ERROR_REPORTING", "false")
        try:
            import wandb
        except ImportError:
            self._gave_up = True
            self._say('the package is not here: pip install "kwanzaa-trainer[wandb]"')
            return
        modes = ["online", "offline"] if self._environ.get(KEY) else ["offline"]
        for mode in modes:
            if self._guarded(lambda: self._start(wandb, mode)):  # noqa: B023 -- called at once
                words = "its server" if mode == "online" else "files, for wandb sync"
                self._journal.say("wandb", f"W&B run {self._id} goes to {words}", mode=mode)
                return
            # Its service takes a run that failed to begin for one that is in use.
            self._guarded(wandb.teardown)
        self._gave_up = True

    def _start(self, wandb: Any, mode: str) -> None:
        wishes = self._config.monitoring.wandb
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=wishes.project or "kwanzaa",
            entity=wishes.entity,
            name=wishes.name or self._id,
            id=self._id,
            resume="allow" if mode == "online" else None,
            mode=mode,
            dir=str(self._folder),
            config=self._config.model_dump(mode="json"),
            settings=wandb.Settings(**_PRIVATE, init_timeout=PATIENCE_S),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def _guarded(self, work: Any) -> bool:
        """Whether it went well; whatever went wrong in there is said, and never raised."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 -- somebody else's library, beside the training
            self._say(f"{type(error).__name__}")
            return False
        return True

    def _say(self, text: str) -> None:
        # Never the error's own words: they may quote a request with the key in it.
        self._journal.say("wandb_failed", f"W&B: {text}", level="warning")
