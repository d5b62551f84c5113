"""Hugging Face Jobs: a command in an image, on a flavour of hardware, under a time limit."""

import re
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING

from kwanzaa_compute.clock import iso
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase, Sighting
from kwanzaa_compute.errors import ProviderError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute_huggingface import JOBS
from kwanzaa_compute_huggingface.hardware import offers_of
from kwanzaa_compute_huggingface.hub import OURS, Hub
from kwanzaa_compute_huggingface.images import image_for
from kwanzaa_compute_huggingface.meaning import is_missing, status_of

if TYPE_CHECKING:
    from huggingface_hub import JobInfo

MARK = {"kwanzaa-compute": "yes"}
"""A label of every job of ours, so that a listing need not show all others."""
REMEMBERED_S = 600.0
"""An ended job costs nothing, but the Hub lists it for ever. For so long it is seen EXITED."""
ALIVE = ("SCHEDULING", "RUNNING")
_ENDED_ALREADY = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.CONFLICT,
        HTTPStatus.GONE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
"""How a refusal to cancel what has ended may look; then the job itself is asked."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EXIT_CODE = re.compile(r"exit code:?\s*(\d+)", re.IGNORECASE)


class JobsDriver:
    """One account's jobs. A machine's id is the job's."""

    features = JOBS

    def __init__(self, context: DriverContext) -> None:
        """Asks nobody yet."""
        self._hub = Hub(context)
        self._clock = context.clock
        self._ended: set[str] = set()

    def offers(self) -> Iterable[Offer]:
        """Every flavour with a GPU. What is free is not said: a job waits until it is."""
        flavours = self._hub.call(lambda api: api.list_jobs_hardware())
        source = f"{self._hub.endpoint}/api/jobs/hardware"
        return offers_of("hf-jobs", flavours, source=source, as_of=iso(self._clock.now()))

    def launch(self, job: Job, offer: Offer) -> str:
        """Asks for a job of that name.

        Its time limit is always given: the Hub's own is half an hour. It is tried once: a run
        that lost its machine is resumed from its store, by the watcher, under the cap.
        """
        namespace = self._hub.namespace
        info = self._hub.call(
            lambda api: api.run_job(
                image=job.image or image_for(offer.gpu),
                command=list(job.argv),
                env=dict(job.env),
                secrets={name: secret.reveal() for name, secret in job.secrets.items()},
                flavor=offer.id,
                timeout=max(1, int(job.max_hours * 3600)),
                attempts=1,
                name=job.name,
                labels=MARK,
                namespace=namespace,
            )
        )
        return info.id

    def inspect(self, machine_id: str) -> Sighting:
        """One job; GONE where there is none, or where it has ended some time ago."""
        if not _ID.fullmatch(machine_id):
            return Sighting(machine_id, Phase.GONE)
        namespace = self._hub.namespace
        try:
            info = self._hub.call(
                lambda api: api.inspect_job(job_id=machine_id, namespace=namespace)
            )
        except Exception as error:
            if is_missing(error):
                return Sighting(machine_id, Phase.GONE)
            raise
        return self._sighting(info)

    def fleet(self) -> Iterable[Sighting]:
        """Every job of ours that waits or runs. Ended ones bill nothing and are left out."""
        namespace = self._hub.namespace
        jobs = self._hub.call(
            lambda api: list(api.list_jobs(status=list(ALIVE), labels=MARK, namespace=namespace))
        )
        seen = (self._sighting(info) for info in jobs if info.status.stage in ALIVE)
        return [sighting for sighting in seen if OURS.fullmatch(sighting.name)]

    def terminate(self, machine_id: str) -> None:
        """Cancels a job; one that is unknown or has ended is no error."""
        if not _ID.fullmatch(machine_id):
            return
        namespace = self._hub.namespace
        try:
            self._hub.call(lambda api: api.cancel_job(job_id=machine_id, namespace=namespace))
        except Exception as error:
            if not is_missing(error) and not self._has_ended(machine_id, error):
                raise
        self._ended.add(machine_id)

    def logs(self, machine_id: str) -> Iterable[str]:
        """What the job has printed so far."""
        if not _ID.fullmatch(machine_id):
            return []
        namespace = self._hub.namespace
        return self._hub.lines(
            lambda api: api.fetch_job_logs(job_id=machine_id, namespace=namespace)
        )

    def classify(self, error: Exception) -> ProviderError:
        """What an error of the Hub's means."""
        return self._hub.classify(error)

    def _has_ended(self, machine_id: str, error: Exception) -> bool:
        """Whether a refusal to cancel only means that there is nothing left to cancel."""
        status = status_of(error)
        if status not in _ENDED_ALREADY:
            return False
        return self.inspect(machine_id).phase in {Phase.EXITED, Phase.GONE}

    def _sighting(self, info: "JobInfo") -> Sighting:
        said = info.status.message or ""
        phase = self._phase(info.id, str(info.status.stage), info.finished_at)
        return Sighting(
            info.id,
            phase,
            (info.labels or {}).get("name", ""),
            exit_code=_exit_code(str(info.status.stage), said) if phase is Phase.EXITED else None,
            usd_per_hour=None if phase is Phase.RUNNING else Decimal(0),
            detail=said,
        )

    def _phase(self, job_id: str, stage: str, finished_at: datetime | None) -> Phase:
        match stage:
            case "SCHEDULING":
                return Phase.QUEUED
            case "CANCELED" | "DELETED":
                return Phase.GONE
            case "COMPLETED" | "ERROR":
                ended_at = None if finished_at is None else finished_at.timestamp()
                old = ended_at is not None and self._clock.now() - ended_at > REMEMBERED_S
                return Phase.GONE if old or job_id in self._ended else Phase.EXITED
        return Phase.RUNNING  # a stage that we do not know may bill


def _exit_code(stage: str, said: str) -> int | None:
    if stage == "COMPLETED":
        return 0
    found = _EXIT_CODE.search(said)
    return int(found.group(1)) if found else None
