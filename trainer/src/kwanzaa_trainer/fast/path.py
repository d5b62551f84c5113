"""What the training loop holds of the fast path: make it, or hear why not; learn; measure."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch

from kwanzaa_compute.market.shapes import FAST_FAMILIES
from kwanzaa_trainer.data import IGNORED
from kwanzaa_trainer.fast import passes
from kwanzaa_trainer.fast.attention import Layout
from kwanzaa_trainer.fast.blocks import Angles, Decoder, read_decoder
from kwanzaa_trainer.fast.graph import Replayer
from kwanzaa_trainer.fast.nf4 import Scratch
from kwanzaa_trainer.fast.norms import read_norm
from kwanzaa_trainer.fast.passes import Feed, Model, joined, learn, measure

if TYPE_CHECKING:
    from kwanzaa_trainer.batches import Batch

MOVING_ANGLES = {"dynamic", "longrope"}
"""Rotary tables that depend on how long the text in hand is."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One adapter's micro-batch: its summed loss is multiplied by `weight`.

    `seeds` are for dropout, one for each row, no two rows of a step alike; none where none is used.
    """

    batch: "Batch"
    weight: float
    seeds: Sequence[int] = ()


class Company(Protocol):
    """The other adapters on the same base, with whose micro-batches this one's goes."""

    share: float
    """This one's part of what the GPU draws: they are as many as go at once."""

    def learn(self, path: "FastPath", piece: Piece) -> torch.Tensor:
        """What `FastPath.learn` does. Raises `torch.OutOfMemoryError`."""

    def made_room(self) -> bool:
        """Whether the others have made room since memory ran out, so that it may be tried again."""


@dataclass(slots=True, eq=False)
class FastPath:
    """A peft model's fast way: learns into the same parameters, measures the same loss."""

    model: Model
    replayer: Replayer | None
    """None: launch kernel by kernel."""
    recompute_every: int = 1
    """See `passes.learn`."""
    row_tokens: int = 0
    """The length that rows have when they are padded to be replayed; others are launched."""
    packs: bool = False
    """Whether rows hold several samples: then one that holds a single sample is taken alike."""
    complain: Callable[[str], None] = lambda _: None
    """Hears what went otherwise than hoped."""
    company: Company | None = None
    """Who goes through the base with it; None: it goes alone."""

    @property
    def words(self) -> str:
        """How it goes, for people."""
        how = "captured once and replayed" if self.replayer else "launched kernel by kernel"
        share = max(self.model.dropouts)
        exact = ", repeatable to the bit" if self.model.repeatable else ""
        return f"{how}, dropout {f'{share:g} by counter' if share else 'off'}{exact}"

    def begin_step(self) -> None:
        """Before the first micro-batch of an optimizer step."""
        for adapters in self.model.decoder.adapters:
            adapters.begin_step()

    def learn(self, batch: "Batch", weight: float, seeds: Sequence[int] = ()) -> torch.Tensor:
        """The summed loss of the answers times `weight`; gradients are in the parameters' `.grad`.

        `seeds` are its rows' own, for dropout.
        """
        piece = Piece(batch, weight, seeds)
        if self.company is not None:
            return self.company.learn(self, piece)
        return self.learn_each([piece])[0]

    def learn_each(self, pieces: "Sequence[Piece]") -> torch.Tensor:
        """The same for a micro-batch of each of its adapters, all at once: [adapters]."""
        feed = joined([self._feed(piece) for piece in pieces])
        try:
            return self._learn(feed)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if not (self.model.repeatable and "deterministic" in str(error)):
                raise
            self._stop_repeating(error)
        return self._learn(feed)

    def _learn(self, feed: Feed) -> torch.Tensor:
        is_full = feed.ids.numel() == feed.layout.rows * self.row_tokens
        if self.replayer is not None and is_full:
            try:
                return self.replayer.learn(feed, self.recompute_every)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                if "deterministic" in str(error):
                    raise
                self._stop_replaying(error)
        return learn(self.model, feed, self.recompute_every)

    def _stop_replaying(self, error: RuntimeError) -> None:
        """What one driver cannot capture is slower launched, but just as right."""
        self.close()
        self.replayer = None
        self.complain(
            f"cannot be captured, launching kernel by kernel from now on: {_first_line(error)}"
        )

    def _stop_repeating(self, error: RuntimeError) -> None:
        """Torch refuses before there is a gradient: in the last block, first on the way back."""
        self.close()
        self.model = replace(self.model, repeatable=False)
        self.replayer = self.replayer and Replayer(self.model)
        self.complain(f"two runs will agree to tolerance, not to the bit: {_first_line(error)}")

    def measure(self, batch: "Batch") -> torch.Tensor:
        """The summed loss of the answers as the parameters now are."""
        return measure(self.model, self._feed(Piece(batch, 1.0)))[0]

    def refresh(self) -> None:
        """Takes the parameters as they now are, for `measure`."""
        for adapters in self.model.decoder.adapters:
            adapters.refresh()

    def close(self) -> None:
        """Gives up what a captured graph holds."""
        if self.replayer is not None:
            self.replayer.drop()

    def _feed(self, piece: "Piece") -> Feed:
        batch, device = piece.batch, self.model.embedding.device
        rows = batch.input_ids.shape[0]
        wanted = torch.full_like(batch.labels, IGNORED)
        wanted[:, :-1] = batch.labels[:, 1:]
        return Feed(
            batch.input_ids.flatten().to(device),
            batch.position_ids.flatten().to(device),
            wanted.flatten().to(device),
            torch.full((wanted.numel(),), piece.weight, dtype=torch.float32, device=device),
            torch.tensor(piece.seeds or [0] * rows, dtype=torch.int64).to(device),
            layout_of(batch, device, packs=self.packs),
            ((rows, wanted.numel()),),
        )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def layout_of(batch: "Batch", device: torch.device, *, packs: bool) -> Layout:
    """How the batch's samples lie: a position of zero is where one begins.

    Rows of one sample each are said to be just that, unless other rows of the run are packed.
    """
    rows, length = batch.input_ids.shape
    starts = (batch.position_ids.flatten() == 0).nonzero()[:, 0].to(torch.int32)
    if starts.numel() == rows and not packs:
        return Layout(rows, length)
    bounds = torch.cat((starts, torch.tensor([rows * length], dtype=torch.int32)))
    return Layout(rows, length, bounds.to(device))


def side_by_side(paths: Sequence[FastPath]) -> FastPath:
    """Fast paths over the very same base as one, which learns for all their adapters at once.

    The adapters' parameters and gradients stay where they are: `begin_step` is for each path to
    call for its own. Blocks are computed again as in the path that does so for most of them.
    """
    first = paths[0]
    model = passes.side_by_side([path.model for path in paths])
    recomputing = [path.recompute_every for path in paths if path.recompute_every]
    return replace(
        first,
        model=model,
        replayer=None if any(path.replayer is None for path in paths) else Replayer(model),
        recompute_every=min(recomputing, default=0),
        company=None,
    )


def make_fast_path(
    model: Any,
    dtype: torch.dtype,
    row_tokens: int,
    *,
    packs: bool = False,
    repeatable: bool = False,
    scratch: Scratch | None = None,
) -> FastPath:
    """The fast path of a `PeftModel` that computes in `dtype`, for rows of at most so many tokens.

    `packs` says that rows hold several samples, `repeatable` that two runs must agree to the bit.
    `scratch` is memory that several paths over one base may share, for they compute in turn.
    Raises ValueError with the reason where it does not apply.
    """
    parts = replace(read_model(model, dtype, row_tokens), repeatable=repeatable)
    parts = parts if scratch is None else replace(parts, scratch=scratch)
    replayer = Replayer(parts) if parts.embedding.is_cuda else None
    return FastPath(parts, replayer, row_tokens=row_tokens, packs=packs)


def read_model(model: Any, dtype: torch.dtype, row_tokens: int) -> Model:
    """A `PeftModel` in its parts. Raises ValueError with the reason where one is not understood."""
    if dtype is torch.float16:
        raise ValueError("it computes in fp16, with loss scaling")
    base = model.get_base_model()
    config = base.config
    _require_known(config, row_tokens)
    decoder = read_decoder(base.model.layers, dtype, getattr(config, "clip_qkv", None))
    _require_all_trained(model, decoder)
    embedding, head = base.model.embed_tokens.weight, base.lm_head.weight
    if embedding.dtype is not dtype or head.dtype is not dtype:
        raise ValueError(f"its embedding or head is not {dtype}")
    if base.lm_head.bias is not None:
        raise ValueError("its head has a bias")
    names = sorted({block.angles for block in decoder.blocks})
    return Model(
        embedding=embedding.detach(),
        decoder=decoder,
        norm=read_norm(base.model.norm),
        head=head.detach(),
        tables={name: _table(base.model.rotary_emb, name, row_tokens, dtype) for name in names},
        scratch=Scratch(dtype),
        dropouts=(_dropout(model),),
    )


def _require_known(config: Any, row_tokens: int) -> None:
    if config.model_type not in FAST_FAMILIES:
        raise ValueError(f"there is none for the architecture {config.model_type}")
    if getattr(config, "hidden_act", "silu") != "silu":
        raise ValueError(f"its activation is {config.hidden_act}")
    if getattr(config, "attention_dropout", 0.0):
        raise ValueError("its attention has dropout")
    window = getattr(config, "sliding_window", None)
    if window is not None and getattr(config, "use_sliding_window", True) and window < row_tokens:
        raise ValueError(f"rows of {row_tokens} tokens are longer than its window of {window}")


def _require_all_trained(model: Any, decoder: Decoder) -> None:
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    if trained != {id(p) for one in decoder.adapters for p in one.parameters}:
        raise ValueError("more is trained than adapters of its blocks' linear layers")


def _dropout(model: Any) -> float:
    shares = {
        float(getattr(layer.lora_dropout["default"], "p", 0.0))
        for layer in model.modules()
        if hasattr(layer, "lora_dropout")
    }
    if len(shares) > 1:
        raise ValueError("its adapters have different dropouts")
    return shares.pop()


def _table(rotary: Any, name: str, tokens: int, dtype: torch.dtype) -> Angles:
    """Cosines and sines of every position, by the model's own rotary module."""
    kinds = getattr(rotary, "rope_type", "default")
    kind = kinds.get(name) if isinstance(kinds, dict) else kinds
    if kind in MOVING_ANGLES:
        raise ValueError(f"its rotary angles are {kind}")
    device = next(iter(rotary.buffers())).device
    positions = torch.arange(tokens, device=device)[None]
    like = torch.empty((), dtype=dtype, device=device)
    takes_name = "layer_type" in inspect.signature(rotary.forward).parameters
    with torch.no_grad():
        cos, sin = rotary(like, positions, name) if takes_name else rotary(like, positions)
    half = cos.shape[-1] // 2
    return cos[0, :, :half].to(dtype).contiguous(), sin[0, :, :half].to(dtype).contiguous()
