"""One GPU: does the trainer do there what the plan says? Speed and memory, predicted and measured.

    python bench/gpu_reference.py --work DIR [--steps 12] [--cells nf4-ckpt nf4-none bf16-ckpt]

Makes a base of OLMo-7B's shape with random weights, trains on full rows of 2,048 tokens with the
founding recipe (16 rows a step, LoRA r=16 on all linears), once for each cell, each in a process
of its own, and prints what `market.sizing` and `market.speed` had predicted beside it. Random
weights and words: the loss means nothing here, time and memory do.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.market.recipe import recipe_from_config
from kwanzaa_compute.market.shapes import find_shape
from kwanzaa_compute.market.sizing import memory_needed
from kwanzaa_compute.market.speed import speed
from kwanzaa_compute.store import RunFolder, open_store
from kwanzaa_compute.store.folder import BASE_MODEL, CONFIG, TRAIN_DATA

MODEL = "allenai/OLMo-7B-Instruct-hf"
ROW_TOKENS = 2048
CELLS: dict[str, dict[str, Any]] = {
    "nf4-ckpt": {"method": "qlora", "checkpointing": True, "rows": 1},
    "nf4-none": {"method": "qlora", "checkpointing": False, "rows": 1},
    "nf4-ckpt-4": {"method": "qlora", "checkpointing": True, "rows": 4},
    "bf16-ckpt": {"method": "lora", "checkpointing": True, "rows": 1},
    "fp16-ckpt": {"method": "qlora", "checkpointing": True, "rows": 1, "precision": "fp16"},
}


def main() -> int:
    """Makes the base once, then measures each cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--cells", nargs="+", default=list(CELLS))
    options = parser.parse_args()
    import torch

    device = torch.cuda.get_device_name(0)
    print(f"{device}, torch {torch.__version__}", flush=True)
    make_base(options.work / "base")
    for name in options.cells:
        measured = run_cell(options.work, name, options.steps)
        print(json.dumps({"cell": name, **predicted(name, device), **measured}), flush=True)
    return 0


def make_base(folder: Path, layers: int = 32) -> None:
    """OLMo-7B's shape, random weights in bf16, and a tokenizer of one token a byte."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import OlmoConfig, OlmoForCausalLM, PreTrainedTokenizerFast

    if (folder / "config.json").exists():
        return
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<end>": 1} | {c: i for i, c in enumerate(letters, start=2)}
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    torch.manual_seed(0)
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        shape = {"vocab_size": 50304, "num_hidden_layers": layers}
        model = OlmoForCausalLM(OlmoConfig(**shape, pad_token_id=0, eos_token_id=1))
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    special = {"pad_token": "<pad>", "eos_token": "<end>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(folder)
    del model
    torch.cuda.empty_cache()


def config_of(work: Path, name: str, steps: int) -> TrainingConfig:
    """The founding recipe in one cell's variant."""
    cell = CELLS[name]
    return TrainingConfig.model_validate(
        {
            "run": {
                "name": name,
                "logging_steps": 1,
                "mixed_precision": cell.get("precision", "bf16"),
            },
            "model": {"base_model_id": str(work / "base")},
            "adapter": {"method": cell["method"]},
            "data": {"train_file": "t", "format": "text_jsonl", "max_seq_length": ROW_TOKENS},
            "training": {
                "max_steps": steps,
                "per_device_train_batch_size": cell["rows"],
                "gradient_accumulation_steps": 16 // cell["rows"],
                "gradient_checkpointing": cell["checkpointing"],
            },
            "evaluation": {"strategy": "no"},
            "checkpointing": {"save_strategy": "no"},
            "monitoring": {"tensorboard": {"enabled": False}},
        }
    )


def predicted(name: str, device: str) -> dict[str, Any]:
    """What the plan would have said."""
    shape, gpu = find_shape(MODEL), find_gpu(device)
    if shape is None:
        raise LookupError(MODEL)
    recipe = recipe_from_config(config_of(Path("x"), name, 1))
    said: dict[str, Any] = {"predicted_gib": round(memory_needed(shape, recipe).total_gib, 2)}
    if gpu:
        said["predicted_tok_s"] = round(speed(shape, recipe, gpu).expected)
    return said


def run_cell(work: Path, name: str, steps: int) -> dict[str, Any]:
    """Trains in a process of its own; the median step and the peak of memory."""
    store = open_store((work / "runs" / name).as_uri())
    rng = random.Random(0)  # noqa: S311 -- words, not keys
    rows = (
        json.dumps({"text": "".join(rng.choices("abcdefgh ", k=ROW_TOKENS - 1))}) + "\n"
        for _ in range(64)
    )
    store.put(TRAIN_DATA, "".join(rows).encode())
    store.put(CONFIG, config_of(work, name, steps).to_json())
    base = work / "runs" / name / BASE_MODEL
    base.mkdir(parents=True)
    for file in (work / "base").iterdir():
        (base / file.name).hardlink_to(file)
    done = subprocess.run(
        [sys.executable, "-m", "kwanzaa_trainer", "run", store.url],
        env={**os.environ, "KWANZAA_HEARTBEAT_S": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"error": done.stderr[-1500:]}
    train = [row for row in RunFolder(store).metrics() if row["kind"] == "train"]
    speeds = sorted(row["tokens_per_second"] for row in train[2:])
    beat, end = RunFolder(store).heartbeat(1), RunFolder(store).done()
    return {
        "measured_tok_s": round(speeds[len(speeds) // 2]),
        "slowest": round(speeds[0]),
        "fastest": round(speeds[-1]),
        "measured_gib": beat and beat.gpu_memory_gib,
        "loss": [round(row["loss"], 3) for row in (train[0], train[-1])],
        "summary": end and {k: v for k, v in end.summary.items() if k != "sample"},
    }


if __name__ == "__main__":
    sys.exit(main())
