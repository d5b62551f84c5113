"""A base model small enough to train in seconds on a processor, for tests of whole runs.

    python -m kwanzaa_trainer.tiny FOLDER FILE...

Its weights are random and its tokenizer knows the text of the files: it learns nothing useful,
and does everything that a real one does.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROLES = ("<|system|>", "<|user|>", "<|assistant|>")


def make_tiny_base(folder: Path, texts: Iterable[str], *, seed: int = 0) -> None:
    """Writes a random OLMo of one layer and its tokenizer; same seed and texts, same bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import OlmoConfig, OlmoForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>", *ROLES]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=4096, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    pad, end = special[:2]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=pad, eos_token=end)
    model = OlmoForCausalLM(
        OlmoConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=2048,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(argv: Sequence[str]) -> int:
    """Makes the base; exit code 2 where the words are not a folder and files."""
    if len(argv) < 2:  # noqa: PLR2004 -- a folder and a file
        sys.stderr.write("usage: python -m kwanzaa_trainer.tiny FOLDER FILE...\n")
        return 2
    make_tiny_base(Path(argv[0]), [Path(name).read_text() for name in argv[1:]])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
