"""How much there is to train on, in tokens, counted from the data and never from hours."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kwanzaa_compute.config import TrainingConfig

CHARACTERS_PER_TOKEN = 4.0
"""English prose and JSON in a vocabulary of 50,000 to 150,000 words."""
FEWEST_CHARACTERS_PER_TOKEN = 3.2
MOST_CHARACTERS_PER_TOKEN = 4.7
TOKENS_PER_MESSAGE = 5
"""What a chat template puts around one message: role, separators, end of turn."""
BEST_FILL = 0.97
"""Share of a packed row that tokens fill when samples are short; measured 98 %."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens estimated from characters: few, expected, many, and how it was done."""

    low: int
    expected: int
    high: int
    provenance: str


def count_tokens_from_characters(
    characters: int,
    *,
    messages: int = 0,
    characters_per_token: float = CHARACTERS_PER_TOKEN,
    tokens_per_message: int = TOKENS_PER_MESSAGE,
) -> TokenCount:
    """Tokens that so many characters come to, with the chat template's own tokens.

    Raises ValueError where a count is negative or the ratio is not above zero.
    """
    if characters < 0 or messages < 0 or not characters_per_token > 0:
        raise ValueError("characters and messages must not be negative, the ratio above zero")
    overhead = messages * tokens_per_message
    few = max(characters_per_token, MOST_CHARACTERS_PER_TOKEN)
    many = min(characters_per_token, FEWEST_CHARACTERS_PER_TOKEN)
    return TokenCount(
        math.ceil(characters / few) + overhead,
        math.ceil(characters / characters_per_token) + overhead,
        math.ceil(characters / many) + overhead,
        f"{characters:,} characters at {characters_per_token:g} a token"
        + (f", {tokens_per_message} more for each of {messages:,} messages" if messages else ""),
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """The replies that are generated to the evaluation data when training has ended.

    `count` replies in batches of `batch_rows`, to prompts of `prompt_tokens` in all. A batch goes
    on for `tokens` until its longest reply has ended, and for `most_tokens` where one never ends.
    """

    count: int = 0
    batch_rows: int = 1
    prompt_tokens: int = 0
    tokens: float = 0.0
    most_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """What one run processes.

    `tokens_per_epoch` counts the data's own tokens, `rows_per_epoch` the fixed-length rows that
    they are laid into; the GPU computes whole rows, padding too. `steps` are optimizer steps of
    the whole run, `evaluations` how often all `eval_rows` are evaluated. Checkpoints are saved
    every `save_every_steps` steps and every `save_every_s` seconds, whichever comes first.
    """

    tokens_per_epoch: int
    rows_per_epoch: int
    row_tokens: int
    epochs: float
    steps: int
    rows_per_step: int
    eval_rows: int = 0
    evaluations: int = 0
    save_every_steps: int | None = None
    save_every_s: float | None = None
    provenance: str = ""
    answers: Answers = Answers()

    @property
    def trained_rows(self) -> float:
        """Rows that the whole run trains on."""
        by_epochs = self.rows_per_epoch * self.epochs
        return min(by_epochs, float(self.steps * self.rows_per_step))

    @property
    def computed_tokens(self) -> float:
        """Tokens that go forward and backward in the whole run, padding too."""
        return self.trained_rows * self.row_tokens

    @property
    def data_tokens(self) -> float:
        """Tokens of the data that the whole run sees, padding not counted."""
        share = self.trained_rows / self.rows_per_epoch if self.rows_per_epoch else 0.0
        return self.tokens_per_epoch * share

    @property
    def eval_tokens(self) -> int:
        """Tokens that all evaluations send forward."""
        return self.eval_rows * self.evaluations * self.row_tokens


def packed_rows(tokens: int, samples: int, row_tokens: int) -> int:
    """Rows that first-fit packing needs, judged from the samples' mean length.

    Short samples fill rows to 97 %. Samples of more than half a row rarely find a partner: then
    the fill lies between whole samples a row and the best one (88 % on the first real data set).
    """
    if tokens <= 0 or samples <= 0:
        return 0
    mean = min(tokens / samples, row_tokens)
    whole = math.floor(row_tokens / mean) * mean / row_tokens
    fill = BEST_FILL if mean < row_tokens / 6 else min(BEST_FILL, (whole + 2 * BEST_FILL) / 3)
    return max(1, min(samples, math.ceil(tokens / (row_tokens * fill))))


def workload(
    *,
    tokens_per_epoch: int,
    samples: int,
    row_tokens: int,
    rows_per_step: int,
    epochs: float,
    packing: bool = True,
    max_steps: int | None = None,
    eval_rows: int = 0,
    eval_every_steps: int | None = None,
    save_every_steps: int | None = None,
    save_every_s: float | None = None,
    provenance: str = "",
    answers: Answers = Answers(),
) -> Workload:
    """The workload of so many tokens in so many samples, under one config's rhythm.

    Raises ValueError where there is nothing to train on.
    """
    if tokens_per_epoch < 1 or samples < 1 or epochs <= 0 or rows_per_step < 1 or row_tokens < 1:
        raise ValueError("a workload needs tokens, samples, epochs and a batch")
    rows = packed_rows(tokens_per_epoch, samples, row_tokens) if packing else samples
    steps = max(1, math.ceil(math.ceil(rows / rows_per_step) * epochs))
    if max_steps is not None:
        steps = min(steps, max_steps)
    each_epoch = max(1, round(epochs))
    evaluations = steps // eval_every_steps + 1 if eval_every_steps else each_epoch
    return Workload(
        tokens_per_epoch=tokens_per_epoch,
        rows_per_epoch=rows,
        row_tokens=row_tokens,
        epochs=epochs,
        steps=steps,
        rows_per_step=rows_per_step,
        eval_rows=eval_rows,
        evaluations=evaluations if eval_rows else 0,
        save_every_steps=save_every_steps,
        save_every_s=save_every_s,
        provenance=provenance,
        answers=answers,
    )


@dataclass(frozen=True, slots=True)
class TextSize:
    """How much text a data file holds: samples, characters, chat messages."""

    samples: int
    characters: int
    messages: int = 0


def workload_from_config(
    config: "TrainingConfig", train: TextSize, evaluation: TextSize | None = None
) -> Workload:
    """The workload of a validated training.yaml on data of that size.

    Raises ValueError where there is nothing to train on.
    """
    data, training = config.data, config.training
    tokens = count_tokens_from_characters(train.characters, messages=train.messages)
    has_eval = evaluation is not None and config.evaluation.strategy != "no"
    by_steps = config.evaluation.strategy == "steps"
    return workload(
        tokens_per_epoch=tokens.expected,
        samples=train.samples,
        row_tokens=data.max_seq_length,
        rows_per_step=training.rows_per_step,
        epochs=training.num_train_epochs,
        packing=data.packing,
        max_steps=training.max_steps,
        eval_rows=_eval_rows(config, evaluation) if has_eval and evaluation else 0,
        eval_every_steps=config.evaluation.steps if by_steps else None,
        save_every_steps=(
            config.checkpointing.save_steps
            if config.checkpointing.save_strategy == "steps"
            else None
        ),
        save_every_s=config.checkpointing.save_seconds,
        provenance=tokens.provenance,
        answers=_answers(config, evaluation),
    )


def _answers(config: "TrainingConfig", evaluation: TextSize | None) -> Answers:
    """The replies that a config asks for.

    How long they get nobody knows beforehand: a batch is taken to go on for as many tokens as a
    whole sample has on average, and never for more than `max_new_tokens`.
    """
    if evaluation is None or not evaluation.samples or not config.answer_metrics:
        return Answers()
    wishes = config.evaluation.generation
    count = min(wishes.max_samples or evaluation.samples, evaluation.samples)
    tokens = count_tokens_from_characters(evaluation.characters, messages=evaluation.messages)
    each = min(tokens.expected / evaluation.samples, float(config.data.max_seq_length))
    return Answers(
        count=count,
        batch_rows=wishes.batch_size,
        prompt_tokens=math.ceil(count * each),
        tokens=min(each, float(wishes.max_new_tokens)),
        most_tokens=wishes.max_new_tokens,
    )


def _eval_rows(config: "TrainingConfig", evaluation: TextSize) -> int:
    if not config.data.packing:
        return evaluation.samples
    tokens = count_tokens_from_characters(evaluation.characters, messages=evaluation.messages)
    return packed_rows(tokens.expected, evaluation.samples, config.data.max_seq_length)
