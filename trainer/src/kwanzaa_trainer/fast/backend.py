"""Which tensors our Triton kernels may work on. Everything else takes the plain formula."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import ModuleType

import torch

_on_cpu_as_well: ContextVar[bool] = ContextVar("_on_cpu_as_well", default=False)


def kernels_for(tensor: torch.Tensor) -> ModuleType | None:
    """The module of Triton kernels where they can work on this tensor; None where they cannot."""
    return _kernels() if tensor.is_cuda or _on_cpu_as_well.get() else None


@contextmanager
def interpreted() -> Iterator[None]:
    """Runs the kernels on a CPU too, under Triton's interpreter (TRITON_INTERPRET=1): for tests."""
    token = _on_cpu_as_well.set(True)
    try:
        yield
    finally:
        _on_cpu_as_well.reset(token)


@cache
def _kernels() -> ModuleType | None:
    if importlib.util.find_spec("triton") is None:
        return None
    from kwanzaa_trainer.fast import kernels

    return kernels
