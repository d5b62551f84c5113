"""The same work by Unsloth, on a base of the same shape in the same run.

Its own architecture of that shape, Llama's, is what it is fastest on. It is a peer to be run in a
process of its own: it changes transformers as it is imported.
"""

import os
import time
from pathlib import Path
from typing import Any

os.environ |= {"UNSLOTH_DISABLE_STATISTICS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import unsloth  # isort: skip -- before all that it changes

import gpu_peers as peers

WORK = Path("/tmp/kwanzaa-bench")  # noqa: S108 -- a machine of its own, gone afterwards
WAYS: dict[str, str | bool] = {"all": "unsloth", "none": False}
"""What is recomputed, and Unsloth's word for it."""


def unsloth_trainer(book: Any) -> None:
    """Its own loop's best: full rows with all recomputed and with nothing, then its own packing."""
    folder = _make_base(WORK / "llama")
    book.note("base on disk")
    for name, way, packing in (
        ("all x1, full rows", "all", False),
        ("all x1, its own packing", "all", True),
        ("none x1, full rows", "none", False),
    ):
        with book.attempt(f"Unsloth {name}"):
            _measure(book, folder, f"Unsloth {unsloth.__version__} nf4 {name}", WAYS[way], packing)


def _measure(book: Any, folder: Path, name: str, way: str | bool, packing: bool) -> None:  # noqa: FBT001 -- a row of the table above
    import trl

    started = time.monotonic()
    model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
        str(folder), max_seq_length=peers.g.ROW, load_in_4bit=True
    )
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = unsloth.FastLanguageModel.get_peft_model(
        model,
        r=16,
        lora_alpha=32,
        lora_dropout=0,
        target_modules=targets,
        use_gradient_checkpointing=way,
    )
    book.note(f"{name}: loaded", seconds=round(time.monotonic() - started, 1))
    arguments = peers.arguments() | {"gradient_checkpointing": bool(way)}
    del arguments["gradient_checkpointing_kwargs"]
    clock = peers.make_clock()
    rows = peers.short_rows() if packing else peers.full_rows()
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(
            max_length=peers.g.ROW, packing=packing, dataset_num_proc=1, **arguments
        ),
        train_dataset=peers.dataset(rows),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    peers.train(book, name, trainer, clock)


def _make_base(folder: Path) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if (folder / "config.json").exists():
        return folder
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=50304, intermediate_size=11008, max_position_embeddings=2048)
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    peers.make_tokenizer().save_pretrained(folder)
    del model
    torch.cuda.empty_cache()
    return folder
