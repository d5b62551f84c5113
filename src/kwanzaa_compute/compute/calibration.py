"""How fast runs really were: each finished run teaches the next plan."""

import json
from typing import TYPE_CHECKING

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import StoreError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.market.recipe import recipe_from_config
from kwanzaa_compute.market.shapes import ModelShape, find_shape, shape_from_config_json
from kwanzaa_compute.market.sizing import recipe_on
from kwanzaa_compute.market.speed import SpeedReceipt, speed
from kwanzaa_compute.runs.candidates import load_offers
from kwanzaa_compute.runs.records import RunState
from kwanzaa_compute.store import Done
from kwanzaa_compute.store.folder import BASE_MODEL

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute
    from kwanzaa_compute.compute.run import Run

LEAST_SECONDS = 2.0
"""Training that took less is mostly warming up, and says nothing of the GPU."""
LEAST_FILLED = 0.7
"""Rows that are mostly padding say nothing of it either: the trainer cuts padding off."""
MOST = 1e15
"""No honest figure is larger."""


def learnt_speeds(compute: "Compute") -> tuple[SpeedReceipt, ...]:
    """What finished runs showed; nothing where there is no ledger yet. Creates nothing."""
    if not (compute.home / "ledger.sqlite").is_file():
        return ()
    return compute.ledger.speeds()


def learn_speed(run: "Run") -> SpeedReceipt | None:
    """Remembers how fast a finished run was beside what was expected of its machine.

    None where the run teaches nothing: it is not done, went on on another kind of GPU, took next
    to no time, was mostly padding, or its model or GPU is not known here. Never raises for those.
    """
    record, offer = run.record, _offer(run)
    if record.state is not RunState.DONE or offer is None or not offer.gpu.known:
        return None
    gpu, cards = offer.gpu, max(1, offer.gpu_count)
    try:
        config = TrainingConfig.model_validate_json(record.config)
        done, shape = run.done, _shape(run, config)
    except (StoreError, ValueError):  # a ValueError: a config that this version no longer knows
        return None
    recipe = recipe_from_config(config)
    actual = _tokens_per_s(done, recipe.tokens_per_step) if done else None
    if shape is None or actual is None:
        return None
    on_each = recipe_on(shape, recipe, gpu, cards)
    expected = speed(shape, on_each, gpu, gpu_count=cards).expected * recipe.evenness(cards)
    receipt = SpeedReceipt(gpu.name, expected, actual)
    run.remember_speed(receipt)
    return receipt


def _offer(run: "Run") -> Offer | None:
    """What all of the run's training was done on: as many of the same GPU throughout."""
    used = {(a.provider, a.offer_id, a.region) for a in run.attempts if a.machine_id}
    offers = [
        offer
        for offer in load_offers(run.record.candidates)
        if (offer.provider, offer.id, offer.region) in used
    ]
    alike = len({(offer.gpu.name, offer.gpu_count) for offer in offers}) == 1
    same_gpu = len({attempt.gpu for attempt in run.attempts if attempt.machine_id}) == 1
    return offers[0] if alike and same_gpu else None


def _tokens_per_s(done: Done, tokens_per_step: int) -> float | None:
    """From the trainer's summary, which came over the network: nothing in it is trusted."""
    tokens, seconds, steps = (_number(done.summary, n) for n in ("tokens", "train_s", "steps"))
    if seconds < LEAST_SECONDS or steps <= 0:
        return None
    filled = tokens / (steps * tokens_per_step)
    return tokens / seconds if LEAST_FILLED <= filled <= 1 else None


def _number(summary: object, name: str) -> float:
    value = summary.get(name) if isinstance(summary, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if 0 < value < MOST else 0.0


def _shape(run: "Run", config: TrainingConfig) -> ModelShape | None:
    """The base model's shape: from our table, else from the folder that went up with the run."""
    model = config.model
    known = find_shape(model.native_base_model_id)
    if known is not None:
        return known
    try:
        raw = json.loads(run.folder.store.get(f"{BASE_MODEL}/config.json"))
        return shape_from_config_json(raw, model.base_model_id)
    except (StoreError, ValueError):
        return None
