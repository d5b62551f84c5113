"""SageMaker in the words of the contract: six methods and the logs.

A machine's id is its job's name, which is unique in an account and region for ever.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

from kwanzaa_compute.clock import iso
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase, Sighting
from kwanzaa_compute.errors import ProviderError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute_sagemaker import FEATURES
from kwanzaa_compute_sagemaker.aws import Aws
from kwanzaa_compute_sagemaker.images import image_for
from kwanzaa_compute_sagemaker.prices import SERVICE, filters, offers_of
from kwanzaa_compute_sagemaker.refusals import code_of, is_unknown_job, meaning
from kwanzaa_compute_sagemaker.replies import OURS, sighting_of
from kwanzaa_compute_sagemaker.request import (
    Place,
    encryption,
    parcel_of,
    parcel_of_description,
    parcel_place,
    refused,
    request_of,
)
from kwanzaa_compute_sagemaker.settings import Settings

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
MOST_LOG_PAGES = 20
PARCEL_S, CREATE_S = 15.0, 40.0
"""Together below the minute that the core grants, so that no create comes after its giving up."""
ALIVE = ("InProgress", "Stopping")
"""In this order: a job that stops between two listings is in the second."""


class SageMakerDriver:
    """Training jobs of one account in one region, on demand and managed spot."""

    features = FEATURES

    def __init__(self, context: DriverContext) -> None:
        """Asks nobody yet."""
        self._context = context
        self._settings = Settings.of(context.environment)
        self._ended: set[str] = set()

    def offers(self) -> Iterable[Offer]:
        """Every training instance with a GPU that has a price in this region, both ways.

        They are for as many instances a job as the user has set.
        What is free is not said, and neither is a quota: a job waits, or is refused.
        """
        region, instances = self._settings.checked_region(), self._settings.checked_instances()
        listed = self._aws.pages(
            "pricing", "get_products", "PriceList", ServiceCode=SERVICE, Filters=filters(region)
        )
        return list(offers_of(listed, region, iso(self._context.clock.now()), instances))

    def launch(self, job: Job, offer: Offer) -> str:
        """Sends the parcel, then asks for the job. A job of that name that is ours is adopted."""
        settings = self._settings
        request = request_of(
            job,
            offer,
            role=settings.checked_role(),
            image=job.image or settings.image or image_for(settings.checked_region()),
            kms_key=settings.kms_key,
        )
        place = parcel_place(job.store_url, job.name)
        self._send(place, parcel_of(job))
        try:
            self._aws.call("sagemaker", "create_training_job", CREATE_S, **request)
        except Exception as error:
            if code_of(error) == "ResourceInUse":
                return self._adopted(job.name, place)
            if meaning(error).nothing_was_created:
                self._forget(place)
            raise
        return job.name

    def inspect(self, machine_id: str) -> Sighting:
        """One job; GONE where there is none, or where it has ended some time ago."""
        job = self._described(machine_id)
        return Sighting(machine_id, Phase.GONE) if job is None else self._sighting(job)

    def fleet(self) -> Iterable[Sighting]:
        """Every job of ours that bills or may yet. Ended ones are left out."""
        seen = {}
        for status in ALIVE:
            for row in self._aws.pages(
                "sagemaker",
                "list_training_jobs",
                "TrainingJobSummaries",
                NameContains="kwz-",
                StatusEquals=status,
                MaxResults=100,
            ):
                name = row["TrainingJobName"]
                if OURS.fullmatch(name):
                    # Older rows lack the status that tells an interruption.
                    job = row if row.get("SecondaryStatus") else self._described(name)
                    if job is not None:
                        seen[name] = self._sighting(job)
        return [sighting for sighting in seen.values() if sighting.may_bill]

    def terminate(self, machine_id: str) -> None:
        """Stops a job, and takes its parcel away. One that is unknown or has ended is no error."""
        job = self._described(machine_id)
        if job is None:
            return
        if job["TrainingJobStatus"] not in {"Completed", "Failed", "Stopped", "Deleting"}:
            self._stop(machine_id)
        self._ended.add(machine_id)
        place = parcel_of_description(job)
        if place is not None:
            self._forget(place)

    def logs(self, machine_id: str) -> Iterable[str]:
        """What the job has printed, as CloudWatch has it so far. Untrusted text."""
        if not OURS.fullmatch(machine_id):
            return []
        try:
            return list(self._lines(machine_id))
        except Exception as error:
            if code_of(error) == "ResourceNotFoundException":
                return []  # no job in this account and region has printed anything yet
            raise

    def classify(self, error: Exception) -> ProviderError:
        """See `refusals`."""
        return meaning(error)

    @cached_property
    def _aws(self) -> Aws:
        region = self._settings.checked_region()
        return Aws(self._context.environment, region, self._context.endpoint)

    def _send(self, place: Place, parcel: bytes) -> None:
        """Before anything is created: whatever goes wrong here, nothing was launched."""
        try:
            self._aws.call(
                "s3",
                "put_object",
                PARCEL_S,
                Bucket=place.bucket,
                Key=place.key,
                Body=parcel,
                **encryption(self._settings.kms_key),
            )
        except Exception as error:
            why = meaning(error)
            why.nothing_was_created = True
            raise why from error

    def _forget(self, place: Place) -> None:
        self._aws.call("s3", "delete_object", PARCEL_S, Bucket=place.bucket, Key=place.key)

    def _adopted(self, name: str, place: Place) -> str:
        """The job that has the name already, where it is the very one: a repeated request."""
        job = self._described(name)
        if job is None or parcel_of_description(job) != place:
            raise refused(f"a training job {name} exists already, and is not this run's")
        return name

    def _described(self, machine_id: str) -> dict[str, Any] | None:
        if not OURS.fullmatch(machine_id):
            return None
        try:
            return self._aws.call("sagemaker", "describe_training_job", TrainingJobName=machine_id)
        except Exception as error:
            if is_unknown_job(error):
                return None
            raise

    def _stop(self, machine_id: str) -> None:
        try:
            self._aws.call("sagemaker", "stop_training_job", TrainingJobName=machine_id)
        except Exception as error:
            job = None if is_unknown_job(error) else self._described(machine_id)
            if job is not None and job["TrainingJobStatus"] in ALIVE:
                raise

    def _sighting(self, job: dict[str, Any]) -> Sighting:
        ended = job["TrainingJobName"] in self._ended
        return sighting_of(job, self._context.clock.now(), ended_by_us=ended)

    def _lines(self, machine_id: str) -> Iterator[str]:
        """Every stream of the job: SageMaker opens one for each instance and each new start."""
        found = self._aws.call(
            "logs",
            "describe_log_streams",
            logGroupName=LOG_GROUP,
            logStreamNamePrefix=f"{machine_id}/",
        )
        for stream in found.get("logStreams") or ():
            token: dict[str, str] = {}
            for _ in range(MOST_LOG_PAGES):
                page = self._aws.call(
                    "logs",
                    "get_log_events",
                    logGroupName=LOG_GROUP,
                    logStreamName=stream["logStreamName"],
                    startFromHead=True,
                    **token,
                )
                for event in page.get("events") or ():
                    yield from str(event.get("message") or "").splitlines()
                following = page.get("nextForwardToken")
                if not following or following == token.get("nextToken"):
                    break
                token = {"nextToken": following}
