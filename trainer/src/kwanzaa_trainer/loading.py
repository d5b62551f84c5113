"""The model onto its device: how precisely, in how much memory, by which way, and why."""

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import ConfigError
from kwanzaa_compute.market.shapes import FAST_FAMILIES
from kwanzaa_compute.market.sizing import CUDA_CONTEXT_GIB, GIB
from kwanzaa_compute.store.folder import TrainingPhase
from kwanzaa_trainer.allocator import keep_what_works
from kwanzaa_trainer.chat import chat_format
from kwanzaa_trainer.data import Reader
from kwanzaa_trainer.effort import measure_ceiling
from kwanzaa_trainer.inputs import Inputs
from kwanzaa_trainer.memory import SHARDED_AS_TOLD, Case, Choice, Footing, as_written, choose
from kwanzaa_trainer.model import (
    Base,
    attach_adapter,
    base_sha256,
    load_base,
    load_tokenizer,
    set_recomputation,
)
from kwanzaa_trainer.precision import Device, Precision, choose_precision, find_device
from kwanzaa_trainer.randomness import seed_everything
from kwanzaa_trainer.shards import shard_base
from kwanzaa_trainer.site import Site

if TYPE_CHECKING:
    from kwanzaa_trainer.fast.nf4 import Scratch
    from kwanzaa_trainer.fast.path import FastPath


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model with its adapter and its tokenizer, and what the base looked like before."""

    model: Any
    tokenizer: Any
    reader: Reader
    base_sha256: str
    device: Device
    precision: Precision
    case: Case
    footing: Footing
    fast: "FastPath | None"
    ceiling_tflops: float | None
    """What the GPU's best product came to, just now; None without a GPU."""

    @property
    def in_pieces(self) -> bool:
        """Whether the base is spread over the team's cards: every pass needs all of them."""
        return self.footing.pieces > 1


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is to compute on, and what decides how much memory that takes."""

    device: Device
    precision: Precision
    case: Case
    ceiling_tflops: float | None


@dataclass(frozen=True, slots=True)
class Frozen:
    """The base on its device before there is an adapter on it."""

    base: Any
    tokenizer: Any
    seen: Survey
    footing: Footing


Load = Callable[[Site, Inputs, Footing | None], Loaded]
"""How a run comes by its model: `load`, or another that shares the base."""


def load(site: Site, inputs: Inputs, footing: Footing | None = None) -> Loaded:
    """Loads what the run needs on that footing; None lets memory and config decide.

    Raises `ConfigError` for a base that cannot be used, or a fast path that must be and cannot.
    """
    seen = survey(site, inputs)
    if footing is None:
        footing = site.settings.team.agreed(_stand(site, seen.case, seen.device))
    return adapt(site, load_frozen(site, inputs, seen, footing))


def survey(site: Site, inputs: Inputs) -> Survey:
    """Looks at the machine, and at what is to be done on it."""
    config, journal = inputs.config, site.journal
    device = find_device()
    if device.is_gpu and (refused := keep_what_works()):
        words = f"memory comes in pieces of a fixed size: {refused}"
        site.journal.say("allocator", words, level="warning")
    precision = choose_precision(config.run.mixed_precision, device)
    journal.say("precision", f"computing in {precision.name}: {precision.reason}")
    ceiling = measure_ceiling(device, precision, site.clock)  # while its memory is still free
    if ceiling is not None:
        journal.say("ceiling", f"this GPU's best product: {ceiling:.1f} TFLOP/s", tflops=ceiling)
    cards = site.settings.team.size
    case = _case(config, inputs.base, precision, device, cards)
    return Survey(device, precision, case, ceiling)


def load_frozen(site: Site, inputs: Inputs, seen: Survey, footing: Footing) -> Frozen:
    """Loads the base. Raises `ConfigError` where it cannot be used."""
    config, device, precision = inputs.config, seen.device, seen.precision
    seen, in_pieces = replace(seen, case=seen.case.on(footing)), footing.pieces > 1
    _seed(config, device)
    site.moved(TrainingPhase.LOAD)
    site.journal.say("base", f"loading the base {config.model.native_base_model_id}")
    tokenizer = load_tokenizer(inputs.base)
    base = load_base(
        config, inputs.base, precision, device, quantised=footing.quantised, in_pieces=in_pieces
    )
    site.moved(TrainingPhase.LOAD)
    return Frozen(base, tokenizer, seen, footing)


def adapt(site: Site, frozen: Frozen, scratch: "Scratch | None" = None) -> Loaded:
    """Puts the config's adapter on the base. Raises `ConfigError` as `load`."""
    base, tokenizer, footing = frozen.base, frozen.tokenizer, frozen.footing
    device, precision, config = frozen.seen.device, frozen.seen.precision, frozen.seen.case.config
    # Seeded again: the adapter must start from the same numbers however the base was loaded.
    _seed(config, device)
    model = attach_adapter(base, config)
    set_recomputation(base, config, on=footing.recompute_every > 0)
    _warn_of_short_context(site, config, base)
    chat = chat_format(tokenizer, config.data.system_prompt)
    proof = base_sha256(model) if config.checkpointing.verify_base_weights_unchanged else ""
    if footing.pieces > 1:
        shard_base(model, device, footing.pieces)
        site.moved(TrainingPhase.LOAD)
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        reader=Reader(tokenizer, chat, config.data.format, config.data.max_seq_length),
        base_sha256=proof,
        device=device,
        precision=precision,
        case=frozen.seen.case,
        footing=footing,
        fast=_fast_path(site, frozen, model, scratch),
        ceiling_tflops=frozen.seen.ceiling_tflops,
    )


def give_memory_back() -> None:
    """Frees what nobody refers to any more, on the GPU as well."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def _case(
    config: TrainingConfig, base: Base, precision: Precision, device: Device, cards: int
) -> Case:
    path = Path(base.source) / "config.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    reason = _reason_against(config, told, precision, device)
    return Case(config, told, precision.name, reason, cards)


def _reason_against(config: TrainingConfig, base: Any, precision: Precision, device: Device) -> str:
    """Why the fast path is not taken, as far as it can be told before the base is loaded; or ""."""
    wish = config.training.fast_path
    if wish == "never":
        return "training.fast_path is never"
    if wish == "auto" and not device.is_gpu:
        return "there is no GPU"
    if precision.name == "fp16":
        return "it computes in fp16, with loss scaling"
    kind = base.get("model_type")
    return "" if kind in FAST_FAMILIES else f"there is none for the architecture {kind}"


def _stand(site: Site, case: Case, device: Device) -> Footing:
    """The footing for the memory that there is; a machine without a GPU pages, and needs none."""
    cards = case.cards
    if device.is_gpu:
        choice = choose(case, limit_memory(site))
    elif cards > 1 and case.config.training.shard_base == "always":
        choice = Choice(replace(as_written(case.config), pieces=cards), SHARDED_AS_TOLD)
    else:
        return as_written(case.config)
    _say_choice(site, choice)
    return choice.footing


def limit_memory(site: Site) -> float:
    """How much there is, in GiB, the driver's share included; a limit of the user's is set."""
    import torch

    free, total = (size / GIB for size in torch.cuda.mem_get_info(0))
    limit = site.settings.gpu_gib
    if limit is None:
        return free + CUDA_CONTEXT_GIB
    share = max(0.01, min(1.0, (limit - CUDA_CONTEXT_GIB) / total))
    torch.cuda.set_per_process_memory_fraction(share, 0)
    return min(limit, free + CUDA_CONTEXT_GIB)


def _say_choice(site: Site, choice: Choice) -> None:
    footing = choice.footing
    site.journal.say(
        "memory",
        f"memory: {footing.name}: {choice.reason}",
        rung=footing.name,
        quantised=footing.quantised,
        recompute_every=footing.recompute_every,
        rows=footing.rows,
        needs_gib=round(footing.needs_gib, 2),
        pieces=footing.pieces,
    )


def _fast_path(
    site: Site, frozen: Frozen, model: Any, scratch: "Scratch | None"
) -> "FastPath | None":
    """The fast path, or None with its reason in the journal. Raises where it must be and cannot."""
    from kwanzaa_trainer.fast.path import make_fast_path

    config, reason = frozen.seen.case.config, frozen.seen.case.why_not_fast
    if not reason:
        try:
            fast = make_fast_path(
                model,
                frozen.seen.precision.torch_dtype,
                config.data.max_seq_length,
                packs=config.data.packing,
                repeatable=config.run.deterministic,
                scratch=scratch,
            )
        except ValueError as error:
            reason = str(error)
        else:
            fast.recompute_every = frozen.footing.recompute_every
            fast.complain = lambda text: site.journal.say("path", text, level="warning")
            site.journal.say("path", f"taking the fast path: {fast.words}", path="fast")
            return fast
    if config.training.fast_path == "always":
        raise ConfigError(
            f"training.fast_path is always, but it does not apply: {reason}",
            mend="set training.fast_path to auto",
        )
    site.journal.say("path", f"taking the reference path: {reason}", path="reference")
    return None


def _seed(config: TrainingConfig, device: Device) -> None:
    seed_everything(config.run.seed, deterministic=config.run.deterministic, is_gpu=device.is_gpu)


def _warn_of_short_context(site: Site, config: TrainingConfig, base: Any) -> None:
    most = getattr(base.config, "max_position_embeddings", None)
    if most is not None and config.data.max_seq_length > most:
        site.journal.say(
            "context",
            f"data.max_seq_length = {config.data.max_seq_length} is more than the {most} tokens"
            " that the base was made for",
            level="warning",
        )
