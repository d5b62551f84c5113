"""Answers to the evaluation data: generated in batches, counted, and held against the targets."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.config.evaluation import GenerationSection
from kwanzaa_trainer import quality
from kwanzaa_trainer.evaluate import end_token_ids, pad_token_id
from kwanzaa_trainer.quality import IsCompliant, Question, Reading

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Answerer:
    """What generates: the model, its tokenizer, and the user's wishes for it."""

    model: Any
    tokenizer: "PreTrainedTokenizerBase"
    wishes: GenerationSection
    seed: int
    is_rendered: bool
    """Whether prompts hold their special tokens already."""


def answer(
    answerer: Answerer, questions: Sequence[Question], go_on: Callable[[], bool]
) -> list[str]:
    """The model's replies, in the questions' order; fewer where it was not let go on.

    `go_on` is asked at every token. Where a batch does not fit into memory it is halved; where not
    even one prompt does, that is the end. Sampling starts from the seed, whatever was drawn before.
    """
    import torch

    torch.manual_seed(answerer.seed)
    size = min(answerer.wishes.batch_size, max(1, len(questions)))
    replies: list[str] = []
    while len(replies) < len(questions):
        piece = questions[len(replies) : len(replies) + size]
        found = _batch(answerer, [question.prompt for question in piece], go_on)
        if found is None:
            torch.cuda.empty_cache()
            if size == 1:
                break
            size //= 2
        elif go_on():
            replies += found
        else:
            break
    return replies


def judge(
    questions: Sequence[Question],
    replies: Sequence[str],
    metrics: Sequence[str],
    is_compliant: IsCompliant,
    targets: dict[str, float | None],
) -> dict[str, Any]:
    """The result of an evaluation on answers, as it stands in the run's summary.

    `of_reference` are the same rates for the answers of the data itself: no adapter that learnt
    them well can be expected to pass them. Where answers are missing no target is held to be
    missed or met.
    """
    counts = quality.count(questions, replies, metrics, is_compliant)
    taught = quality.count(questions, [q.reference for q in questions], metrics, is_compliant)
    found = quality.rates(counts)
    is_complete = len(replies) == len(questions)
    return {
        "asked": len(questions),
        "answered": len(replies),
        "rates": found,
        "counts": {name: list(both) for name, both in counts.items()},
        "of_reference": quality.rates(taught),
        "targets": {name: targets.get(name) for name in metrics},
        "missed": quality.missed(found, targets) if is_complete else None,
    }


def words(result: dict[str, Any]) -> str:
    """One line for people: each rate, and the target that it missed."""
    late = result["missed"] or []
    told = [
        f"{name.removesuffix('_rate').replace('_', ' ')} {_share(rate)}"
        + (f" (target {_share(result['targets'][name])})" if name in late else "")
        for name, rate in result["rates"].items()
    ]
    return f"{result['answered']} of {result['asked']} answered: {', '.join(told)}"


def as_lines(questions: Sequence[Question], replies: Sequence[str]) -> bytes:
    """Questions' line numbers, replies, and what was read in each, as JSON Lines."""
    rows = (
        {"line": question.line, "reply": reply, "read": _told(quality.read_reply(reply))}
        for question, reply in zip(questions, replies, strict=False)
    )
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _batch(answerer: Answerer, prompts: list[str], go_on: Callable[[], bool]) -> list[str] | None:
    """The replies to a few prompts at once; None where memory did not suffice."""
    import torch
    from transformers import GenerationConfig, StoppingCriteriaList

    model, tokenizer, wishes = answerer.model, answerer.tokenizer, answerer.wishes
    ids, mask = _left_padded(answerer, prompts)
    sampling = {"temperature": wishes.temperature, "top_p": wishes.top_p, "top_k": wishes.top_k}
    settings = GenerationConfig(
        max_new_tokens=wishes.max_new_tokens,
        do_sample=wishes.do_sample and wishes.temperature > 0,
        num_beams=1,
        repetition_penalty=wishes.repetition_penalty,
        eos_token_id=end_token_ids(model, tokenizer),
        pad_token_id=pad_token_id(tokenizer),
        remove_invalid_values=True,  # an overflow must not cost the finished adapter
        **(sampling if wishes.do_sample and wishes.temperature > 0 else {}),
    )

    def stop(ids: "torch.Tensor", _scores: Any, **_: Any) -> "torch.Tensor":
        return torch.full((len(ids),), not go_on(), device=ids.device, dtype=torch.bool)

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=settings,
                stopping_criteria=StoppingCriteriaList([stop]),
            )
    except torch.OutOfMemoryError:
        return None
    finally:
        model.train(was_training)
    texts = tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
    return [str(text).strip() for text in texts]


def _left_padded(answerer: Answerer, prompts: list[str]) -> "tuple[torch.Tensor, torch.Tensor]":
    """Prompts as one tensor and its mask: the answers must begin in one column."""
    import torch

    tokenizer, device = answerer.tokenizer, answerer.model.device
    rows = [tokenizer(p, add_special_tokens=not answerer.is_rendered)["input_ids"] for p in prompts]
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_token_id(tokenizer), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, width - len(row) :] = torch.tensor(row, dtype=torch.long)
        mask[number, width - len(row) :] = 1
    return ids.to(device), mask.to(device)


def _told(reading: Reading) -> dict[str, Any]:
    return {
        "is_json": reading.document is not None,
        "citations": list(reading.citations),
        "refuses": reading.refuses,
    }


def _share(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.0f} %"
