"""Hugging Face Spaces: a private Docker Space that trains, shows a page, and pauses itself."""

import json
from collections.abc import Iterable
from dataclasses import replace

from kwanzaa_compute.clock import iso
from kwanzaa_compute.drivers.contract import DriverContext, Job, Sighting
from kwanzaa_compute.errors import ProviderError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.secret import Secret
from kwanzaa_compute_huggingface import SPACES
from kwanzaa_compute_huggingface.hardware import offers_of
from kwanzaa_compute_huggingface.hub import HUB, Hub
from kwanzaa_compute_huggingface.images import image_for
from kwanzaa_compute_huggingface.space_files import space_files
from kwanzaa_compute_huggingface.space_machine import SpaceMachines, Wanted, own_name

PAUSE_TOKEN = "HF_SPACE_TOKEN"  # noqa: S105 -- a variable's name
"""A token that the user lets a Space have, so that it can pause itself (see the README)."""


class SpacesDriver:
    """One account's Spaces. A machine's id is that of its repository."""

    features = SPACES

    def __init__(self, context: DriverContext) -> None:
        """Asks nobody yet."""
        self._hub = Hub(context)
        self._clock = context.clock
        self._pause_token = context.environment.get(PAUSE_TOKEN, "")
        self._machines = SpaceMachines(self._hub, own_name)

    def offers(self) -> Iterable[Offer]:
        """Every flavour of hardware with a GPU that a Space may have."""
        flavours = self._hub.call(lambda api: api.list_spaces_hardware())
        source = f"{self._hub.endpoint}/api/spaces/hardware"
        return offers_of("hf-spaces", flavours, source=source, as_of=iso(self._clock.now()))

    def launch(self, job: Job, offer: Offer) -> str:
        """Creates a Space of the job's name that runs it until a fixed time, and no longer."""
        seconds = max(1, int(job.max_hours * 3600))
        variables = {
            **job.env,
            "KWANZAA_ARGV": json.dumps(job.argv),
            "KWANZAA_NOT_AFTER": f"{self._clock.now() + seconds:.0f}",
        }
        secrets = dict(job.secrets)
        if self._pause_token:
            secrets["KWANZAA_PAUSE_TOKEN"] = Secret(self._pause_token)
        wanted = Wanted(
            offer.id,
            sleep_s=seconds,
            files=space_files(job.name, job.image or image_for(offer.gpu)),
            variables=variables,
            secrets=secrets,
        )
        if self._hub.endpoint != HUB:
            wanted = replace(wanted, variables={**variables, "KWANZAA_HUB": self._hub.endpoint})
        return self._machines.make(job.name, wanted)

    def inspect(self, machine_id: str) -> Sighting:
        """What one Space is doing; GONE where there is none."""
        return self._machines.inspect(machine_id)

    def fleet(self) -> Iterable[Sighting]:
        """Every Space that bears a name of ours."""
        return self._machines.fleet()

    def terminate(self, machine_id: str) -> None:
        """Pauses and deletes a Space; one that is unknown is no error."""
        self._machines.end(machine_id)

    def logs(self, machine_id: str) -> Iterable[str]:
        """What the Space has printed so far."""
        return self._machines.logs(machine_id)

    def classify(self, error: Exception) -> ProviderError:
        """What an error of the Hub's means."""
        return self._hub.classify(error)
