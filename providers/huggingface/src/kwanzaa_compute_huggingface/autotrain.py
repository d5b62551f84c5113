"""AutoTrain, as it was left in January 2025: a Space of its own that trains by its own program.

Deprecated, and never picked by itself: it runs no code of ours, so it has no checkpoints that
could be resumed elsewhere and writes nothing into the run's store. Its adapter goes to a private
repository of the run's name. Made with huggingface_hub alone: its own package has 45 pins.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import PurePosixPath

from kwanzaa_compute.clock import iso
from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.drivers.contract import DriverContext, Job, Sighting
from kwanzaa_compute.errors import ProviderError, StoreMissingError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.store import open_store
from kwanzaa_compute.store.folder import CONFIG, EVAL_DATA, TRAIN_DATA
from kwanzaa_compute_huggingface import AUTOTRAIN
from kwanzaa_compute_huggingface.hardware import offers_of
from kwanzaa_compute_huggingface.hub import Hub
from kwanzaa_compute_huggingface.meaning import HalfMadeError, NoTokenError, is_missing
from kwanzaa_compute_huggingface.space_machine import SpaceMachines, Wanted, own_name
from kwanzaa_compute_huggingface.spaces import PAUSE_TOKEN
from kwanzaa_compute_huggingface.translation import parameters_of

PREFIX = "autotrain-"
LLM_TASK = "9"
DOCKERFILE = b"""\
FROM huggingface/autotrain-advanced:latest
CMD pip uninstall -y autotrain-advanced && pip install -U autotrain-advanced && \
autotrain api --port 7860 --host 0.0.0.0
"""
README = "---\ntitle: {name}\nsdk: docker\napp_port: 7860\n---\n"


class AutoTrainDriver:
    """One account's AutoTrain Spaces, `autotrain-<name>`, and the data set that each trains on."""

    features = AUTOTRAIN

    def __init__(self, context: DriverContext) -> None:
        """Asks nobody yet."""
        self._hub = Hub(context)
        self._clock = context.clock
        self._token = context.environment.get(PAUSE_TOKEN, "")
        self._machines = SpaceMachines(self._hub, _own_name)

    def offers(self) -> Iterable[Offer]:
        """Every flavour of hardware with a GPU that a Space may have."""
        flavours = self._hub.call(lambda api: api.list_spaces_hardware())
        source = f"{self._hub.endpoint}/api/spaces/hardware"
        return offers_of("autotrain", flavours, source=source, as_of=iso(self._clock.now()))

    def launch(self, job: Job, offer: Offer) -> str:
        """Sends the data to a private data set and creates AutoTrain's Space for it.

        The job's words are ours and are not run: what is to be trained is read from the run's
        config in its store. Raises `CannotExpressError` where AutoTrain cannot say that.
        """
        namespace = self._hub.namespace
        data_set = f"{namespace}/{job.name}-data"
        wanted = self._wanted(job, offer, data_set)
        try:
            self._send_data(job, data_set)
            return self._machines.make(PREFIX + job.name, wanted)
        except Exception as error:
            if self.classify(error).nothing_was_created:
                # Where a Space may be there, its end is what removes the data as well.
                with suppress(Exception):
                    self._forget_data(data_set)
            raise

    def _wanted(self, job: Job, offer: Offer, data_set: str) -> Wanted:
        if not self._token:
            raise NoTokenError(PAUSE_TOKEN)  # its program writes the adapter, and pauses, itself
        config = TrainingConfig.from_json(open_store(job.store_url).get(CONFIG))
        parameters = parameters_of(config, project=job.name, data_path=data_set)
        username = data_set.partition("/")[0]
        return Wanted(
            offer.id,
            sleep_s=max(1, int(job.max_hours * 3600)),
            files={"README.md": README.format(name=job.name).encode(), "Dockerfile": DOCKERFILE},
            variables={
                "AUTOTRAIN_USERNAME": username,
                "PROJECT_NAME": job.name,
                "TASK_ID": LLM_TASK,
                "PARAMS": json.dumps({**parameters, "username": username}),
                "DATA_PATH": data_set,
                "MODEL": parameters["model"],
            },
            secrets={"HF_TOKEN": Secret(self._token)},
        )

    def _send_data(self, job: Job, data_set: str) -> None:
        from huggingface_hub import CommitOperationAdd

        store, files = open_store(job.store_url), {}
        for split, path in (("train", TRAIN_DATA), ("validation", EVAL_DATA)):
            with suppress(StoreMissingError):
                files[f"{split}{PurePosixPath(path).suffix}"] = store.get(path)
        self._hub.call(lambda api: api.create_repo(data_set, repo_type="dataset", private=True))
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        try:
            self._hub.call(
                lambda api: api.create_commit(
                    data_set, operations, commit_message="The run's data", repo_type="dataset"
                )
            )
        except Exception as error:
            raise HalfMadeError(data_set) from error

    def inspect(self, machine_id: str) -> Sighting:
        """What one Space is doing; GONE where there is none."""
        return self._machines.inspect(machine_id)

    def fleet(self) -> Iterable[Sighting]:
        """Every AutoTrain Space that bears a name of ours."""
        return self._machines.fleet()

    def terminate(self, machine_id: str) -> None:
        """Pauses and deletes a Space, and the data set that was made for it."""
        self._machines.end(machine_id)
        namespace, _, repository = machine_id.partition("/")
        if name := _own_name(repository):
            self._forget_data(f"{namespace}/{name}-data")

    def logs(self, machine_id: str) -> Iterable[str]:
        """What the Space has printed so far."""
        return self._machines.logs(machine_id)

    def classify(self, error: Exception) -> ProviderError:
        """What an error of the Hub's means."""
        return self._hub.classify(error)

    def _forget_data(self, data_set: str) -> None:
        try:
            self._hub.call(lambda api: api.delete_repo(data_set, repo_type="dataset"))
        except Exception as error:
            if not is_missing(error):
                raise


def _own_name(repository: str) -> str:
    """The name of ours behind `autotrain-`; "" where the Space is somebody else's."""
    return own_name(repository.removeprefix(PREFIX)) if repository.startswith(PREFIX) else ""
