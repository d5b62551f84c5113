"""What a plan says of one offer: what the whole run would cost on it, or why it is out."""

from dataclasses import dataclass
from enum import StrEnum

from kwanzaa_compute.market.costs import Cost, CostLine, Estimate
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.market.speed import Speed


class Reason(StrEnum):
    """Why an offer was refused; the wording is made when somebody reads it."""

    VRAM = "vram"
    DISK = "disk"
    GPU_COUNT = "gpu count"
    SEVERAL_MACHINES = "several machines"
    NO_BF16 = "no bf16"
    UNKNOWN_GPU = "unknown gpu"
    WRONG_GPU = "wrong gpu"
    ARM = "arm"
    FEATURES = "features"
    PROVIDER = "provider"
    ATTENDED = "attended"
    NO_SPOT = "no spot"
    SPOT_ONLY = "spot only"
    ON_DEMAND_ONLY = "on-demand only"
    SOLD_OUT = "sold out"
    PRICE_UNKNOWN = "price unknown"
    PRICE_OLD = "price old"
    SPOT_DEARER = "spot dearer"
    TOO_LONG = "too long"
    DEADLINE = "deadline"
    SPOT_DEADLINE = "spot deadline"
    CAP = "cap"


_WORDS: dict[Reason, str] = {
    Reason.VRAM: "VRAM short by {0:.1f} GiB: needs {1:.1f}, {gpu} has {2:.1f}",
    Reason.DISK: "disk short by {0:.0f} GiB: needs {1:.0f}, has {2:.0f}",
    Reason.GPU_COUNT: "has {0} GPU(s), the run needs {1}",
    Reason.SEVERAL_MACHINES: "is {0} machines, and those train one adapter, on a base that one GPU"
    " holds",
    Reason.NO_BF16: "{gpu} has no bf16, and fp16 is not allowed",
    Reason.UNKNOWN_GPU: "{gpu} is not in the table of GPUs, so its speed is unknown",
    Reason.WRONG_GPU: "{gpu} is not the {0} that was asked for",
    Reason.ARM: "Arm machine: the image and libraries are built for x86",
    Reason.FEATURES: "{provider} lacks {0}",
    Reason.PROVIDER: "only {0} was asked for",
    Reason.ATTENDED: "needs a person at a browser; never picked without being asked for",
    Reason.NO_SPOT: "only spot machines were asked for, and {provider} sells none",
    Reason.SPOT_ONLY: "only spot machines were asked for",
    Reason.ON_DEMAND_ONLY: "only on-demand machines were asked for",
    Reason.SOLD_OUT: "sold out, or no longer sold",
    Reason.PRICE_UNKNOWN: "price unknown (missing, zero or no number is never taken as free)",
    Reason.PRICE_OLD: "price of {0} is {1} days old, the limit is {2}",
    Reason.SPOT_DEARER: "spot is no cheaper than on-demand at the same place (${0} for the run)",
    Reason.TOO_LONG: "would take {0:.1f} h, past the limit of {1:.1f} h",
    Reason.DEADLINE: "would take {0:.1f} h, past the deadline in {1:.1f} h",
    Reason.SPOT_DEADLINE: "interrupted, it may take {0:.1f} h, past the deadline in {1:.1f} h,"
    " and no on-demand machine can take over",
    Reason.CAP: "would cost ${0}, more than the cap of ${1}",
}

_SET_UP = frozenset({"boot", "image", "install", "model download", "model load"})
_WORK = frozenset({"training", "evaluation", "answers"})

Detail = tuple[float | str, ...]
"""The figures that a reason's wording shows."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An offer that cannot be taken, with its reason."""

    offer: Offer
    code: Reason
    detail: Detail = ()

    @property
    def reason(self) -> str:
        """The reason in words, with its figures."""
        words = _WORDS[self.code]
        return words.format(*self.detail, gpu=self.offer.gpu.name, provider=self.offer.provider)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An offer that the run fits on, with what the whole run would take and cost there.

    `hours` are wall hours, waiting included; `billed_hours` what is expected on the bill.
    `lines` add up to `usd.expected` exactly. `marks` are things to know before taking it.
    """

    offer: Offer
    hours: Estimate
    usd: Cost
    billed_hours: float
    lines: tuple[CostLine, ...]
    speed: Speed
    checkpoint_every_s: float | None = None
    marks: tuple[str, ...] = ()

    @property
    def why(self) -> str:
        """What makes up the bill, the largest parts first, in one sentence."""
        parts = sorted((line for line in self.lines if line.usd > 0), key=lambda part: -part.usd)
        if not parts:
            return "this very machine: it costs nothing"
        shown = ", ".join(f"{part.what} ${part.usd:.4f}" for part in parts[:3])
        return f"{shown}; {self.speed.expected:,.0f} tokens/s ({self.speed.provenance})"

    @property
    def set_up_share(self) -> float:
        """The share of billed time that passes before the first step."""
        total = sum(line.seconds for line in self.lines)
        return self.set_up_s / total if total else 0.0

    @property
    def set_up_s(self) -> float:
        """Billed seconds that pass before the first step."""
        return sum(line.seconds for line in self.lines if line.what in _SET_UP)

    @property
    def training_s(self) -> float:
        """Seconds of training and evaluation."""
        return sum(line.seconds for line in self.lines if line.what in _WORK)

    @property
    def work_s(self) -> float:
        """Seconds of training, evaluation and saving, if nothing interrupts."""
        return self.training_s + sum(ln.seconds for ln in self.lines if ln.what == "checkpoints")
