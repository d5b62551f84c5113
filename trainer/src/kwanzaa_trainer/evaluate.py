"""What the model can do now: the loss on held-out answers, and one answer in words."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from kwanzaa_trainer.batches import Batch, collate, micro_batches, nothing_to_learn
from kwanzaa_trainer.data import Sample
from kwanzaa_trainer.packing import Row
from kwanzaa_trainer.team import ALONE, Team

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

ANSWER_TOKENS = 160
LARGEST_EXPONENT = 700.0


def eval_loss(
    model: Any,
    samples: Sequence[Sample],
    rows: Sequence[Row],
    *,
    batch_rows: int,
    pad_id: int,
    measure: "Callable[[Batch], torch.Tensor]",
    go_on: Callable[[], bool] = lambda: True,
    team: Team = ALONE,
    in_step: bool = False,
) -> float | None:
    """The mean loss over all answer tokens of the rows, without any randomness.

    `measure` gives the summed loss of a batch. `go_on` is asked after each batch; None is
    returned where it said no. The processes of a team share the batches, and all get the result;
    `in_step` all of them make as many passes, because their base is in pieces.
    """
    import torch

    was_training = model.training
    model.eval()
    total, answers, given_up = 0.0, 0, 0
    pieces = micro_batches(range(len(rows)), batch_rows)
    try:
        with torch.no_grad():
            for piece, counts in _passes(pieces, team, in_step=in_step):
                batch = collate(samples, [rows[i] for i in piece], pad_id)
                batch = batch if counts else nothing_to_learn(batch)
                total += float(measure(batch))
                answers += batch.answers
                if not go_on():
                    given_up = 1
                    break
    finally:
        model.train(was_training)
    total, all_answers, stopped = team.sums(total, answers, given_up)
    return None if stopped else total / all_answers


def _passes(
    pieces: list[Sequence[int]], team: Team, *, in_step: bool
) -> Iterator[tuple[Sequence[int], bool]]:
    """This process's share of the pieces, and whether each counts or only fills up."""
    mine = team.share(pieces)
    yield from ((piece, True) for piece in mine)
    if in_step:
        most = len(pieces[:: team.size])
        yield from ((pieces[0], False) for _ in range(most - len(mine)))


def perplexity(loss: float) -> float | None:
    """The exponential of the loss; None where that is beyond a float."""
    return math.exp(loss) if loss < LARGEST_EXPONENT else None


def greedy_answer(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str,
    *,
    with_adapter: bool,
    is_rendered: bool,
) -> str:
    """What the model says to a prompt, always taking the likeliest token."""
    import torch
    from transformers import GenerationConfig

    encoded = tokenizer(prompt, return_tensors="pt", add_special_tokens=not is_rendered)
    settings = GenerationConfig(
        max_new_tokens=ANSWER_TOKENS,
        do_sample=False,
        num_beams=1,
        eos_token_id=end_token_ids(model, tokenizer),
        pad_token_id=pad_token_id(tokenizer),
    )
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), nullcontext() if with_adapter else model.disable_adapter():
            ids = encoded["input_ids"].to(model.device)
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                generation_config=settings,
            )
    finally:
        model.train(was_training)
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()


def end_token_ids(model: Any, tokenizer: "PreTrainedTokenizerBase") -> list[int] | None:
    """What ends an answer: the tokenizer's end token, and those that the base names itself."""
    named = getattr(model.generation_config, "eos_token_id", None)
    found = {*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id} - {None}
    return sorted(found) or None


def pad_token_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """What fills rows up: the pad token, else the end token, else token 0; it is never learnt."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0
