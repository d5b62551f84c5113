"""Everything random: seeded once, and carried in checkpoints as tensors and plain values."""

import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def seed_everything(seed: int, *, deterministic: bool, is_gpu: bool) -> None:
    """Seeds python, numpy and torch.

    With `deterministic`, torch takes its deterministic kernels where it has some. On a GPU the
    attention's backward pass has none, so two runs there agree to tolerance, not to the bit.
    """
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 -- libraries draw from the global generator
    torch.manual_seed(seed)
    if is_gpu:
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        # Else torch would also write over every fresh tensor, which costs time and tells nothing.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def capture() -> tuple[dict[str, "torch.Tensor"], dict[str, Any]]:
    """The state of every generator: (tensors, plain values)."""
    import numpy as np
    import torch

    state: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    name, words, position, has_gauss, gauss = state
    version, python_words, python_gauss = random.getstate()
    tensors = {
        "rng/torch": torch.get_rng_state(),
        "rng/numpy": torch.from_numpy(words.astype(np.int64)),
        "rng/python": torch.tensor(python_words, dtype=torch.int64),
    }
    if torch.cuda.is_available():
        tensors["rng/cuda"] = torch.cuda.get_rng_state(0)
    plain = {
        "numpy": [str(name), int(position), int(has_gauss), float(gauss)],
        "python": [version, python_gauss],
    }
    return tensors, plain


def restore(tensors: dict[str, "torch.Tensor"], plain: dict[str, Any]) -> None:
    """Puts every generator where `capture` found it. A state for a GPU waits for one."""
    import numpy as np
    import torch

    name, position, has_gauss, gauss = plain["numpy"]
    words = tensors["rng/numpy"].numpy().astype(np.uint32)
    np.random.set_state((name, words, position, has_gauss, gauss))  # noqa: NPY002
    version, python_gauss = plain["python"]
    random.setstate((version, tuple(tensors["rng/python"].tolist()), python_gauss))
    torch.set_rng_state(tensors["rng/torch"])
    if "rng/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng/cuda"], 0)
