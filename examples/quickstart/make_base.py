"""Make the tiny base model of the quickstart: OLMo's architecture, its own tokenizer, pretrained.

    python examples/quickstart/make_base.py --output examples/quickstart/outputs/tiny-olmo

It stands in for a 7B model, so that the whole road from training.yaml to a finished adapter can
be walked on a laptop without a download. It really is pretrained, on the text of `corpus.py`: a
LoRA adapter can't teach a frozen model with random weights anything that one could see.

The number of steps is fixed and everything is seeded, so one version of torch with one number of
threads gives the same bytes each time. A folder that holds the finished base is left as it is.
"""

import argparse
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import corpus

if TYPE_CHECKING:
    import torch
    from transformers import OlmoForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
RECIPE_FILE = "recipe.json"
"""Written last: a folder without it holds no finished base."""

SEED = 1966
# One: matrices this small gain little from a second core, and lose much where it is busy.
THREADS = 1
VOCABULARY = 1024
# Widths are multiples of 64, the block of 4-bit quantisation, which CPU kernels insist on.
SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 2048,
}
STEPS = 320
ROWS_PER_STEP = 4
TOKENS_PER_ROW = 256
LEARNING_RATE = 3e-3
WARMUP_STEPS = 20
MAX_GRAD_NORM = 1.0

ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
END = "<|end|>"
PAD = "<|pad|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the base, or say that it is there already."""
    parser = argparse.ArgumentParser(description="Make the quickstart's tiny base model.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the base")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"optimizer steps ({STEPS})")
    options = parser.parse_args(arguments)
    recipe = _recipe(options.steps)
    if is_made(options.output, recipe):
        _say(f"{options.output} already holds this base")
        return 0
    began_s = time.monotonic()
    make(options.output, options.steps, recipe)
    _say(f"tiny base in {options.output}, made in {time.monotonic() - began_s:.0f} s")
    return 0


def is_made(folder: Path, recipe: str) -> bool:
    """Whether the folder holds a finished base of this very recipe."""
    try:
        found = json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("recipe_sha256") == recipe


def make(folder: Path, steps: int, recipe: str) -> None:
    """Train tokenizer and model from nothing and save both; the recipe's hash comes last."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECIPE_FILE).unlink(missing_ok=True)
    documents = corpus.prose(), corpus.chats()
    tokenizer = train_tokenizer(*documents)
    model = new_model(tokenizer)
    _say(f"{model.num_parameters():,} parameters, {steps} steps")
    loss = pretrain(model, rows_of(tokenizer, *documents), steps)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts = {"recipe_sha256": recipe, "steps": steps, "loss": round(loss, 4)}
    (folder / RECIPE_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def train_tokenizer(
    prose: Sequence[str], chats: Sequence[corpus.Chat]
) -> "PreTrainedTokenizerFast":
    """A byte-level BPE tokenizer of the general corpus, with roles and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, *ROLES],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [*prose, *(message["content"] for chat in chats for message in chat)]
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=list(ROLES),
        clean_up_tokenization_spaces=False,
        model_max_length=SHAPE["max_position_embeddings"],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model(tokenizer: "PreTrainedTokenizerFast") -> "OlmoForCausalLM":
    """An untrained model of OLMo's architecture in fp32."""
    from transformers import OlmoConfig, OlmoForCausalLM

    return OlmoForCausalLM(
        OlmoConfig(
            **SHAPE,
            vocab_size=VOCABULARY,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def rows_of(
    tokenizer: "PreTrainedTokenizerFast", prose: Sequence[str], chats: Sequence[corpus.Chat]
) -> "torch.Tensor":
    """Every passage and chat, mixed and written one after the other into rows of equal length."""
    import torch

    texts = [text + END for text in prose]
    texts += [str(tokenizer.apply_chat_template(chat, tokenize=False)) for chat in chats]
    mixed = sorted(range(len(texts)), key=lambda n: hashlib.sha256(f"{n}".encode()).digest())
    encoded = tokenizer([texts[number] for number in mixed])["input_ids"]
    tokens = [token for ids in encoded for token in ids]
    rows = len(tokens) // TOKENS_PER_ROW
    return torch.tensor(tokens[: rows * TOKENS_PER_ROW]).view(rows, TOKENS_PER_ROW)


def pretrain(model: "OlmoForCausalLM", rows: "torch.Tensor", steps: int) -> float:
    """Plain next-token training; returns the last loss and prints a line a second."""
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _pace(step, steps))
    model.train()
    said_s = time.monotonic()
    loss = math.nan
    for step, batch in zip(range(1, steps + 1), _batches(rows), strict=False):
        output: Any = model(input_ids=batch, labels=batch, use_cache=False)
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        loss = float(output.loss.detach())
        if step == steps or time.monotonic() - said_s >= 1:
            said_s = time.monotonic()
            _say(f"step {step}/{steps}  loss {loss:.3f}")
    return loss


def _pace(step: int, steps: int) -> float:
    """Share of the learning rate: a warm-up, then half a cosine down to a tenth."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    done = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * done))


def _batches(rows: "torch.Tensor") -> Iterator["torch.Tensor"]:
    """Batches without end, every epoch in another order."""
    import torch

    while True:
        yield from torch.split(rows[torch.randperm(len(rows))], ROWS_PER_STEP)


def _recipe(steps: int) -> str:
    """A hash over all that decides what comes out, apart from the libraries' versions."""
    digest = hashlib.sha256(f"{steps}".encode())
    for path in sorted([Path(__file__), Path(corpus.__file__), *corpus.FOLDER.glob("*.txt")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
