"""Colab as a provider: what it has is shown, and nothing of it can be rented by a program.

Its price is a subscription, paid in compute units whose rate nobody publishes, so no offer has a
price. A person opens the notebook (see `notebook`) and closes it.
"""

from collections.abc import Iterable

from kwanzaa_compute.clock import iso
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase, Sighting
from kwanzaa_compute.errors import InvalidRequestError, ProviderError, TransientError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute_colab import FEATURES
from kwanzaa_compute_colab.wares import gpus

SOURCE = "a subscription in compute units: https://colab.research.google.com/signup"


class OnlyByHandError(Exception):
    """Somebody wanted to rent what only a person can open."""


class ColabDriver:
    """What Colab has; there is never a machine of ours."""

    features = FEATURES

    def __init__(self, context: DriverContext) -> None:
        """Asks nobody, now or later."""
        self._clock = context.clock

    def offers(self) -> Iterable[Offer]:
        """Every GPU that a notebook can ask for; the price of none is known."""
        as_of = iso(self._clock.now())
        for name, gpu in gpus().items():
            yield Offer("colab", name, gpu, source=SOURCE, as_of=as_of, attended=True)

    def launch(self, job: Job, offer: Offer) -> str:
        """Always refuses: `OnlyByHandError`."""
        raise OnlyByHandError(f"{job.name} on {offer.id}")

    def inspect(self, machine_id: str) -> Sighting:
        """GONE: no machine of Colab's is ours to look at."""
        return Sighting(machine_id, Phase.GONE)

    def fleet(self) -> Iterable[Sighting]:
        """Nothing."""
        return ()

    def terminate(self, machine_id: str) -> None:
        """Nothing to end."""

    def classify(self, error: Exception) -> ProviderError:
        """What an error means: a refusal has created nothing, anything else is not ours."""
        if isinstance(error, OnlyByHandError):
            return InvalidRequestError(
                "only a person starts a machine in Colab",
                mend="kwanzaa train CONFIG --provider colab writes the notebook for it",
                nothing_was_created=True,
            )
        return TransientError(f"Colab: {type(error).__name__}")
