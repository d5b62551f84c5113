"""A base that no card holds alone: every block's frozen weights lie in pieces on all cards.

torch's FSDP gathers a block's weights just before they are needed and lets them go behind them.
The adapter is left out of it: it is whole on every card, and the team sums its gradients as ever.
So a checkpoint knows nothing of pieces, and resumes on one card as well as on eight.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.errors import RunError
from kwanzaa_trainer.precision import Device, Precision

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def quantise(
    model: "PreTrainedModel", config: TrainingConfig, precision: Precision, device: Device
) -> None:
    """Every linear layer of the blocks into 4 bits: computed on the card, kept in plain memory.

    One layer at a time, so the card never holds more than that; and to the same bits as where
    transformers quantises a base that fits.
    """
    import torch

    for block in blocks_of(model):
        for parent in list(block.modules()):
            for name, child in list(parent.named_children()):
                if type(child) is torch.nn.Linear:
                    setattr(parent, name, _in_4_bits(child, config, precision, device))
    cast("Any", model).is_loaded_in_4bit = True  # peft looks here


def _in_4_bits(
    linear: "torch.nn.Linear", config: TrainingConfig, precision: Precision, device: Device
) -> Any:
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit

    wish = config.adapter.quantization
    options: dict[str, Any] = {
        "compress_statistics": wish.bnb_4bit_use_double_quant,
        "quant_type": wish.bnb_4bit_quant_type,
        # Not bf16: on a GPU FSDP copies by way of float32, which rewrites every pair of bytes that
        # is no number as bf16, 506 of a million. Not bytes: torch 2.11 shards floats only.
        "quant_storage": torch.float32,
    }
    made = Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=precision.torch_dtype,
        device="meta",
        **options,
    )
    made.bias = linear.bias
    weight: Any = Params4bit(linear.weight.data, requires_grad=False, module=made, **options)
    made.weight = weight.to(device.torch_device).to("cpu")
    return made


def shard_base(model: Any, device: Device, size: int) -> None:
    """Puts the base of a `PeftModel` onto `size` cards, block by block, a piece of each on each.

    What stands outside the blocks, embedding and head, is whole on every card: gathering it anew
    for every micro-batch would take longer than it saves. Collective: every process calls it.
    Raises `RunError` where a block, gathered again, is not what it was to the last bit.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    place = device.torch_device
    mesh = init_device_mesh(place.type, (size,))
    base = model.get_base_model()
    whole = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for block in blocks_of(base):
        before = {name: p.data for name, p in block.named_parameters() if not p.requires_grad}
        block.to(place)  # FSDP would move it as well, but not the constants of 4-bit weights
        fully_shard(block, mesh=mesh, ignored_params=whole)
        _require_same(block, before)
    pieces = {id(p) for block in blocks_of(base) for p in block.parameters()}
    for tensor in (*base.parameters(), *base.buffers()):
        if id(tensor) not in pieces and tensor.device != place:
            tensor.data = tensor.data.to(place)
    # The root of all blocks, so that one is gathered while another computes; it shards nothing.
    outside = {p for p in base.parameters() if id(p) not in pieces}
    fully_shard(base.base_model, mesh=mesh, ignored_params=whole | outside)
    # transformers then generates in step: no process stops before the others have their answer.
    base._is_fsdp_managed_module = True  # noqa: SLF001 -- its own name for it


def _require_same(block: Any, before: "Mapping[str, torch.Tensor]") -> None:
    """Gathers a block as every pass will, and compares each byte with what it was."""
    import torch

    block.unshard()
    after = dict(block.named_parameters())
    wrong = sum(int((_bytes(after[name]) != _bytes(data)).sum()) for name, data in before.items())
    block.reshard()
    if wrong:
        raise RunError(
            f"torch {torch.__version__} does not gather a base in pieces as it was: {wrong} bytes"
            " of a block differ",
            mend="set training.shard_base to never and take a GPU with more memory, or report it",
        )


def _bytes(tensor: "torch.Tensor") -> "torch.Tensor":
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def blocks_of(model: "PreTrainedModel") -> Iterator["torch.nn.Module"]:
    """The decoder blocks, as transformers itself would keep each on one device."""
    names = set(model._no_split_modules or ())  # noqa: SLF001 -- there is no public one
    # FSDP makes a class of its own from a module's, below it.
    return (m for m in model.modules() if names & {kind.__name__ for kind in type(m).__mro__})


def here(tensor: "torch.Tensor") -> "torch.Tensor":
    """The piece of a tensor that lies on this card; all of it where it is not in pieces."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor.data


def gathered(tensor: "torch.Tensor") -> "torch.Tensor":
    """All of a tensor. Collective where it is in pieces: every process calls it."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.data
