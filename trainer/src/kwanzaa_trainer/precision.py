"""In which number format to compute, and why: bf16, else fp16, else fp32."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

BF16_SINCE = (8, 0)
FP16_SINCE = (7, 0)


@dataclass(frozen=True, slots=True)
class Device:
    """What this machine computes on. `capability` is CUDA's; None means a CPU."""

    name: str
    capability: tuple[int, int] | None = None

    @property
    def is_gpu(self) -> bool:
        """Whether it is a CUDA device."""
        return self.capability is not None

    @property
    def torch_device(self) -> "torch.device":
        """As torch calls it."""
        import torch

        return torch.device("cuda", 0) if self.is_gpu else torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Precision:
    """A number format with the reason it was taken."""

    name: Literal["bf16", "fp16", "fp32"]
    reason: str

    @property
    def torch_dtype(self) -> "torch.dtype":
        """The dtype of the frozen base and of autocast."""
        import torch

        return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[self.name]

    @property
    def autocast(self) -> Literal["bf16", "fp16", "no"]:
        """What accelerate calls it."""
        return "no" if self.name == "fp32" else self.name


def find_device() -> Device:
    """The first CUDA device where there is one, else the CPU."""
    import torch

    if not torch.cuda.is_available():
        return Device("CPU")
    major, minor = torch.cuda.get_device_capability(0)
    return Device(torch.cuda.get_device_name(0), (major, minor))


def choose_precision(wanted: str, device: Device) -> Precision:
    """The format nearest to the wish (`bf16`, `fp16` or `no`) that the device really computes in.

    What a GPU merely emulates is not taken: it would be slower than what it replaces.
    """
    if wanted == "no":
        return Precision("fp32", "run.mixed_precision is no")
    if device.capability is None:
        return Precision("fp32", f"{wanted} was asked for, but without a GPU fp32 is the exact way")
    shown = f"{device.name} has compute capability {'.'.join(map(str, device.capability))}"
    if wanted == "bf16" and device.capability >= BF16_SINCE:
        return Precision("bf16", f"{shown}: bf16 is native")
    if device.capability >= FP16_SINCE:
        why = "as asked" if wanted == "fp16" else "bf16 needs 8.0"
        return Precision("fp16", f"{shown}: fp16 with loss scaling, {why}")
    return Precision("fp32", f"{shown}: half precision needs 7.0")
