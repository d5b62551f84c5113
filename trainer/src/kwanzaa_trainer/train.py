"""One run, read top to bottom: fetch, load, learn, report."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kwanzaa_compute.clock import iso
from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import RunError
from kwanzaa_compute.store.checkpoints import CheckpointName, fetch_checkpoint
from kwanzaa_compute.store.folder import Done, TrainingPhase
from kwanzaa_trainer import checkpoint
from kwanzaa_trainer.answering import Answerer, answer, as_lines, judge, words
from kwanzaa_trainer.charts import Charts, make_charts
from kwanzaa_trainer.data import Reader
from kwanzaa_trainer.effort import effort_of
from kwanzaa_trainer.evaluate import greedy_answer, pad_token_id, perplexity
from kwanzaa_trainer.health import watch_gpu
from kwanzaa_trainer.inputs import Inputs, fetch_inputs, identity
from kwanzaa_trainer.learner import make_learner
from kwanzaa_trainer.loading import Load, Loaded, give_memory_back, load
from kwanzaa_trainer.loop import Examples, SmallerBaseError, Training, carry_curves, learn
from kwanzaa_trainer.manifest import Shelf, newest_verified
from kwanzaa_trainer.memory import Footing
from kwanzaa_trainer.model import base_checksum, base_sha256
from kwanzaa_trainer.report import Report, upload_adapter, write_adapter, write_documents
from kwanzaa_trainer.schedule import plan_schedule
from kwanzaa_trainer.site import Site
from kwanzaa_trainer.stopping import StopWatch
from kwanzaa_trainer.threads import match_threads, set_threads
from kwanzaa_trainer.tokens import rows_of


@dataclass(frozen=True, slots=True)
class Carried:
    """What goes over from one footing of this attempt to the next, in memory and on disk."""

    footing: Footing
    saved: checkpoint.Saved
    train: Examples
    eval: Examples | None
    saved_at: int


def train(site: Site, load: Load = load) -> Done:
    """Trains the run in the store to its end; returns its done marker, not yet written.

    In a team only the leader's marker holds anything; the others' work ends with the learning.

    Raises `StoppedError` after a checkpoint where it was asked to stop, `UsageError` for a config,
    data or base that cannot be used, `CheckpointError` where none can be trusted, `StoreError` and
    OSError for what another try may mend.
    """
    site.moved(TrainingPhase.DOWNLOAD)
    moved = partial(site.moved, TrainingPhase.DOWNLOAD)
    team, own = site.settings.team, site.settings.base
    team.meet()
    inputs = fetch_inputs(site.folder.store, site.work, moved=moved, base_folder=own, team=team)
    _say_what_is_not_done(site, inputs.config)
    set_threads(site)
    carried: Carried | None = None
    while True:
        loaded = load(site, inputs, None if carried is None else carried.footing)
        training = _prepare(site, inputs, loaded, carried)
        _take_up(site, training, carried)
        team.vary_randomness(inputs.config.run.seed, training.progress.step)
        footing = _learn(training)
        if footing is None:
            break
        carried = _carry(site, training, footing)
        # A fresh base will not fit beside this one, so nothing may refer to it any more.
        del loaded, training
        give_memory_back()
    # Where the base is in pieces, nobody can judge the result without the others.
    if not loaded.in_pieces:
        team.part()
    if team.leads or loaded.in_pieces:
        _take_best(site, training)
        summary = _judged(site, inputs, loaded, training)
    team.part()
    if not team.leads:
        return Done(training.attempt, training.progress.step, {})
    return _report(site, inputs, loaded, training, summary)


def _learn(training: Training) -> Footing | None:
    """Learns to the end; a footing where the run goes on from here, with a base loaded anew."""
    try:
        learn(training)
    except SmallerBaseError as error:
        training.charts.close()
        return error.footing
    except BaseException:
        training.charts.close()
        carry_curves(training)
        raise
    return None


def _carry(site: Site, training: Training, footing: Footing) -> Carried:
    """The run as it stands, to go on with another base: nothing of it is lost."""
    folder = site.work / "carried"
    checkpoint.write(folder, training.learner, training.progress, training.identity)
    saved = checkpoint.read(folder)
    return Carried(footing, saved, training.train, training.eval, training.saved_at)


def _take_up(site: Site, training: Training, carried: Carried | None) -> None:
    """Puts the run where it stood: before a change of base, or in the newest checkpoint."""
    if carried is None:
        _resume(site, training)
        return
    training.progress = checkpoint.restore(training.learner, carried.saved)
    training.saved_at = carried.saved_at


def _prepare(site: Site, inputs: Inputs, loaded: Loaded, carried: Carried | None) -> Training:
    config = inputs.config
    if carried is not None:
        train, held_out = carried.train, carried.eval
    else:
        train, held_out = _read(site, inputs, loaded.reader)
    schedule = plan_schedule(config, len(train.rows))
    site.journal.say(
        "plan",
        f"{len(train.data.samples)} samples in {len(train.rows)} rows,"
        f" {schedule.total_steps} steps",
        steps=schedule.total_steps,
        rows=len(train.rows),
    )
    site.journal.progress(TrainingPhase.LOAD, total_steps=schedule.total_steps)
    attempt, interval_s = site.settings.attempt, site.settings.heartbeat_s
    return Training(
        config=config,
        attempt=attempt,
        learner=make_learner(
            loaded.model,
            config,
            schedule.total_steps,
            loaded.precision,
            loaded.device,
            fast=loaded.fast,
            team=site.settings.team,
            in_step=loaded.in_pieces,
        ),
        effort=effort_of(
            loaded.case, train.data.lengths, loaded.ceiling_tflops, site.settings.team.size
        ),
        health=watch_gpu(site.clock) if site.settings.team.leads else None,
        base_checksum=base_checksum(loaded.model)
        if config.checkpointing.verify_base_weights_unchanged
        else None,
        case=loaded.case,
        footing=loaded.footing,
        schedule=schedule,
        train=train,
        eval=held_out,
        pad_id=pad_token_id(loaded.tokenizer),
        identity=identity(inputs),
        shelf=Shelf(
            site.folder.store,
            site.work / "read-back",
            config.save_total_limit,
            site.folder.resume_point(),
        ),
        scratch=site.work,
        journal=site.journal,
        charts=make_charts(config, site.work, site.folder.run_id, site.journal)
        if site.settings.team.leads
        else Charts(),
        watch=StopWatch(site.stop, site.folder, attempt, interval_s, site.clock),
        clock=site.clock,
        interruptions_per_h=site.settings.interruptions_per_h,
    )


def _read(site: Site, inputs: Inputs, reader: Reader) -> tuple[Examples, Examples | None]:
    """The training data, and the data to evaluate on where the run does that."""
    config = inputs.config
    train = _examples(site, reader, inputs.train, config.data.train_file, config)
    if not config.evaluates or inputs.eval is None:
        return train, None
    shown = config.data.eval_file or inputs.eval.name
    return train, _examples(site, reader, inputs.eval, shown, config)


def _examples(
    site: Site, reader: Reader, path: Path, shown_as: str, config: TrainingConfig
) -> Examples:
    data = reader.read(
        path,
        shown_as,
        moved=lambda: site.moved(TrainingPhase.LOAD),
        cache=site.settings.cache or site.work / "tokens",
    )
    if data.skipped:
        site.journal.say(
            "skipped",
            f"{shown_as}: {data.skipped_words()}",
            level="warning",
            lines=data.skipped,
        )
    return Examples(data, rows_of(data, config))


def _resume(site: Site, training: Training) -> None:
    """Takes up the newest verified checkpoint that counts, where there is one."""
    folder = site.work / "resumed"
    name = newest_verified(
        site.folder.store,
        folder,
        lambda text: site.journal.say("damaged_checkpoint", text, level="warning"),
        training.shelf.point,
    )
    site.settings.team.require_alike(str(name), "checkpoint")
    if name is None:
        return
    saved = checkpoint.read(folder)
    checkpoint.require_same_run(saved, training.identity)
    match_threads(site, saved.threads)
    training.progress = checkpoint.restore(training.learner, saved)
    training.saved_at = name.step
    training.shelf.known[name] = True
    training.journal.progress(
        TrainingPhase.LOAD,
        step=name.step,
        tokens=training.progress.tokens,
        eval_loss=training.progress.eval_last,
        checkpoint=str(name),
    )
    site.journal.say("resumed", f"resumed from {name}", name=str(name), step=name.step)


def _take_best(site: Site, training: Training) -> None:
    """Puts the best evaluated adapter in place of the last one, where the config wants it."""
    progress = training.progress
    best = CheckpointName.parse(progress.best_checkpoint or "")
    wanted = training.config.checkpointing.load_best_model_at_end
    if not wanted or best is None or best.step == progress.step:
        return
    folder = site.work / "best"
    wrong = fetch_checkpoint(site.folder.store, best, folder)
    if wrong:
        text = f"the best checkpoint {best} is damaged, taking the last adapter: {wrong}"
        site.journal.say("best_lost", text, level="warning")
        progress.best_checkpoint = None
        return
    checkpoint.restore_adapter(training.learner, checkpoint.read(folder))
    site.journal.say("best", f"taking the adapter of {best}, eval loss {progress.best}")


def _judged(site: Site, inputs: Inputs, loaded: Loaded, training: Training) -> dict[str, Any]:
    """Proves the base unchanged; returns what the run came to, in figures and in answers."""
    _require_base_unchanged(loaded)
    site.moved(TrainingPhase.EVAL)
    return {
        **_figures(inputs, loaded, training),
        "quality": _quality(site, inputs, loaded, training),
        "sample": _sample(site, inputs, loaded, training),
    }


def _report(
    site: Site, inputs: Inputs, loaded: Loaded, training: Training, summary: dict[str, Any]
) -> Done:
    """Writes the adapter's folder, and carries it into the store."""
    site.moved(TrainingPhase.SAVE)
    site.journal.flush()
    folder = site.work / "adapter"
    write_adapter(folder, training.learner.accelerator.unwrap_model(loaded.model), loaded.tokenizer)
    date = iso(site.clock.now())[:10]
    unknown = write_documents(folder, Report(inputs.config, summary, site.folder.metrics(), date))
    if unknown:
        text = f"artifacts.include_files: nothing here makes {', '.join(unknown)}"
        site.journal.say("unknown_files", text, level="warning")
    files = upload_adapter(site.folder.store, folder)
    training.charts.close()
    carry_curves(training)
    return Done(training.attempt, training.progress.step, files, summary)


def _figures(inputs: Inputs, loaded: Loaded, training: Training) -> dict[str, Any]:
    progress = training.progress
    took_best = progress.best_checkpoint is not None
    final = progress.best if took_best else progress.eval_last
    skipped = {"train": training.train.data.skipped}
    if training.eval is not None:
        skipped["eval"] = training.eval.data.skipped
    return {
        "train_loss": progress.last_loss,
        "eval_loss_first": progress.eval_first,
        "eval_loss_best": progress.best,
        "eval_loss_last": progress.eval_last,
        "perplexity": None if final is None else perplexity(final),
        "steps": progress.step,
        "adapter_step": progress.best_step if took_best else progress.step,
        "stopped_early": progress.is_stopped_early,
        "tokens": progress.tokens,
        "train_s": progress.train_s,
        "energy_wh": progress.energy_wh or None,
        "mfu_percent": _mfu_percent(training),
        "base_sha256": loaded.base_sha256,
        "base": training.identity["base"],
        "train_data_sha256": inputs.train_sha256,
        "precision": loaded.precision.name,
        "precision_reason": loaded.precision.reason,
        "device": loaded.device.name,
        "path": "reference" if loaded.fast is None else "fast",
        "rung": training.footing.name,
        "skipped": {
            name: {"count": len(lines), "lines": list(lines[:10])}
            for name, lines in skipped.items()
        },
    }


def _mfu_percent(training: Training) -> float | None:
    """Over all steps, those of other attempts too: they are held against this GPU's rate."""
    effort, progress = training.effort, training.progress
    if effort is None or not progress.train_s:
        return None
    return effort.mfu_percent(progress.tokens / progress.train_s)


def _quality(
    site: Site, inputs: Inputs, loaded: Loaded, training: Training
) -> Mapping[str, Any] | None:
    """How good this adapter's answers to the evaluation data are; None where nobody asks.

    A target that is missed is told and fails nothing: the adapter is finished and paid for. A stop
    meanwhile leaves the rest unanswered, for the same reason.
    """
    config, metrics = inputs.config, inputs.config.answer_metrics
    if inputs.eval is None or not metrics:
        return None
    wishes = config.evaluation.generation
    shown_as = config.data.eval_file or inputs.eval.name
    questions = loaded.reader.questions(inputs.eval, shown_as, wishes.max_samples)
    if training.learner.fast is not None:
        training.learner.fast.close()  # its captured graphs hold memory

    def go_on() -> bool:
        site.moved(TrainingPhase.EVAL)
        reason = training.watch.reason()
        return not (training.team.agreed(reason) if loaded.in_pieces else reason)

    is_rendered = config.data.format == "chat_jsonl"
    answerer = Answerer(loaded.model, loaded.tokenizer, wishes, config.run.seed, is_rendered)
    replies = answer(answerer, questions, go_on)
    if training.team.leads:
        path = f"attempts/{training.attempt}/answers.jsonl"
        site.folder.store.put(path, as_lines(questions, replies))
    targets = config.evaluation.targets.model_dump()
    result = judge(questions, replies, metrics, inputs.is_compliant or bool, targets)
    level = "info" if result["missed"] == [] else "warning"
    site.journal.say("quality", words(result), level=level, **result)
    return result


def _sample(site: Site, inputs: Inputs, loaded: Loaded, training: Training) -> Mapping[str, str]:
    """What the base and the adapter answer to the first prompt of the evaluation data."""
    path = inputs.eval or inputs.train
    question, prompt = loaded.reader.first_prompt(path, path.name)
    answers = {}
    for who in ("base", "adapter"):
        answers[who] = greedy_answer(
            loaded.model,
            loaded.tokenizer,
            prompt,
            with_adapter=who == "adapter",
            is_rendered=training.config.data.format == "chat_jsonl",
        )
        site.moved(TrainingPhase.EVAL)
    return {"question": question, **answers}


def _require_base_unchanged(loaded: Loaded) -> None:
    if loaded.base_sha256 and base_sha256(loaded.model) != loaded.base_sha256:
        raise RunError(
            "the base model's weights changed during training; the adapter is not handed over",
            mend="this is a fault of the trainer or of a library below it: report it",
        )


def _say_what_is_not_done(site: Site, config: TrainingConfig) -> None:
    """What the config asks for and this trainer leaves undone, each with its reason."""
    import torch

    on_cpu = not torch.cuda.is_available()
    wishes = {
        "training.optim: there is no GPU memory to page, so states stay in plain memory": on_cpu
        and config.training.optim.startswith("paged_"),
    }
    for text, applies in wishes.items():
        if applies:
            site.journal.say("not_applied", text, level="warning")
