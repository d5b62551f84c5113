"""TRL's SFTTrainer on the tiny base, in a process of its own: BASE ROWS OUT SETTINGS.

Its own kernel for the logits' log-probabilities needs Triton, and Triton a GPU; here the plain
formula stands in its place. Everything else is TRL's: collator, loss, accumulation, optimizer.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch


class PlainLogProbs:
    """What TRL's kernel computes, by torch's own operations."""

    @staticmethod
    def apply(hidden: Any, weight: Any, bias: Any, labels: Any, temperature: Any, *_: Any) -> Any:
        logits = torch.nn.functional.linear(hidden, weight, bias).float() / temperature
        every = logits.log_softmax(-1)
        chosen = every.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        nothing = torch.zeros_like(chosen)
        return chosen, nothing, nothing, nothing, logits.argmax(-1) == labels


def main(base: str, rows: Path, out: Path, settings: dict[str, Any]) -> None:
    """Trains once over the rows, in their order; writes loss, norm and rate of each step."""
    from datasets import Dataset
    from datasets.table import InMemoryTable
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer
    from trl.trainer import utils

    utils._ChunkedLogProbFunction = PlainLogProbs
    torch.set_num_threads(1)
    table = InMemoryTable.from_pylist(json.loads(rows.read_text()))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(settings["arguments"]["seed"])
    arguments = SFTConfig(
        output_dir=tempfile.mkdtemp(dir=out.parent),
        **settings["arguments"],
        bf16=False,
        gradient_checkpointing=False,
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        train_sampling_strategy="sequential",
    )
    trainer = SFTTrainer(
        get_peft_model(model, LoraConfig(**settings["lora"])),
        arguments,
        train_dataset=Dataset(table, fingerprint="ours"),
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    trainer.train()
    told = [row for row in trainer.state.log_history if "grad_norm" in row]
    steps = [(row["loss"], row["grad_norm"], row["learning_rate"]) for row in told]
    out.write_text(json.dumps(steps))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]))
