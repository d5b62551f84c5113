"""Azure ML in the words of the contract: six methods and the logs.

A machine's id is its job's name, which is unique in a workspace for ever.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.clock import iso
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase, Sighting
from kwanzaa_compute.drivers.deadline import within
from kwanzaa_compute.drivers.http import HttpClient, cleaned
from kwanzaa_compute.errors import InvalidRequestError, ProviderError, TransientError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.store import open_store
from kwanzaa_compute_azureml import FEATURES
from kwanzaa_compute_azureml.azure import CA_FILE, Azure, command_of
from kwanzaa_compute_azureml.clusters import Clusters, is_not_found
from kwanzaa_compute_azureml.history import History
from kwanzaa_compute_azureml.images import image_for
from kwanzaa_compute_azureml.prices import Meter, offers_of
from kwanzaa_compute_azureml.refusals import meaning
from kwanzaa_compute_azureml.replies import ENDED, OURS, JobView, ending_of, sighting_of
from kwanzaa_compute_azureml.request import (
    INPUT,
    TAG,
    Place,
    Request,
    parcel_of,
    refused,
    request_of,
)
from kwanzaa_compute_azureml.retail import ENDPOINT, rows
from kwanzaa_compute_azureml.settings import DATASTORE, REGION, Settings

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"
LOOK_S, PARCEL_S, LAUNCH_S, LEAST_S = 10.0, 10.0, 54.0, 8.0
"""A launch is below the minute that the core grants, so that no create comes after its giving up:
where less than the least is left of it, nothing is asked for any more."""


class AzureMLDriver:
    """Command jobs of one workspace: serverless, or each on a cluster of its own."""

    features = FEATURES

    def __init__(self, context: DriverContext) -> None:
        """Asks nobody yet."""
        self._context = context
        self._settings = Settings.of(context.environment)
        self._ended: set[str] = set()
        self._has_run: set[str] = set()

    def offers(self) -> Iterable[Offer]:
        """Every size with a GPU that has a price in this region, regular and spot.

        Asks the public list of prices, without the SDK and without an account. What is free is
        not said, and neither is a quota: a job waits, or is refused.
        """
        region, clock = self._settings.checked_region(), self._context.clock
        spot = Meter.LOW_PRIORITY if self._settings.makes_clusters else Meter.SPOT
        ca_file = self._context.environment.get(CA_FILE, "")
        with HttpClient(self._context.endpoint or ENDPOINT, ca_file=ca_file) as client:
            return list(offers_of(rows(client, region, clock), region, iso(clock.now()), spot=spot))

    def launch(self, job: Job, offer: Offer) -> str:
        """Sends the parcel, then asks for the job. A job of that name that is ours is adopted."""
        since, settings = self._context.clock.monotonic(), self._settings
        datastore = settings.checked_datastore()
        request = request_of(
            job,
            offer,
            image=job.image or settings.image or image_for(offer.gpu),
            datastore=datastore,
        )
        self._prepare(request, parcel_of(job))
        try:
            cluster = ""
            if settings.makes_clusters:
                cluster = self._clusters.make(request, self._left(since) - LEAST_S)
            left = self._left(since)
            made = self._azure.call(lambda client: _created(client, request, cluster), left)
        except Exception as error:
            if not self._meaning(error).nothing_was_created:
                raise
            known = self._found(job.name)  # a job that is there already cannot be changed
            if known is None:
                self._clean_up(request)
                raise
            made = known
        if made.parcel != request.parcel.path:
            raise refused(f"a job {job.name} exists already, and is not this run's")
        return job.name

    def inspect(self, machine_id: str) -> Sighting:
        """One job; GONE where there is none, or where it has ended some time ago."""
        if not OURS.fullmatch(machine_id):
            return Sighting(machine_id, Phase.GONE)
        job = self._found(machine_id)
        seen = Sighting(machine_id, Phase.GONE, machine_id) if job is None else self._sighting(job)
        if job is not None and job.cluster and seen.phase is Phase.RUNNING:
            return self._with_machines(seen)
        return self._with_cluster(seen) if job is None or job.cluster else seen

    def fleet(self) -> Iterable[Sighting]:
        """Every job of ours that bills or may yet, and every cluster of ours that is left over."""
        jobs = self._azure.call(_listed)
        alive = {job.name: self._sighting(job) for job in jobs if job.status not in ENDED}
        for name in self._clusters.jobs():
            if name not in alive:
                alive[name] = _left_over(name)
        return [sighting for sighting in alive.values() if sighting.may_bill]

    def terminate(self, machine_id: str) -> None:
        """Cancels a job, and takes its parcel and its cluster away.

        A job that is unknown, or has ended, is no error.
        """
        if not OURS.fullmatch(machine_id):
            return
        job = self._found(machine_id)
        if job is not None and job.status not in ENDED:
            self._cancel(machine_id)
        if job is None or job.cluster:
            self._clusters.delete(machine_id)
        self._ended.add(machine_id)
        if job is not None and job.parcel and self._settings.datastore:
            self._forget(Place(self._datastore[1], job.parcel))

    def logs(self, machine_id: str) -> Iterable[str]:
        """What the job has printed, as the workspace's storage has it so far. Untrusted text."""
        return self._history.printed(machine_id) if OURS.fullmatch(machine_id) else []

    def classify(self, error: Exception) -> ProviderError:
        """See `refusals`."""
        return self._meaning(error)

    # -- inside -------------------------------------------------------------------------------

    def _meaning(self, error: Exception) -> ProviderError:
        return meaning(error, self._context.clock.now())

    @cached_property
    def _azure(self) -> Azure:
        context = self._context
        return Azure(context.environment, self._settings.checked_scope(), context.endpoint)

    @cached_property
    def _clusters(self) -> Clusters:
        return Clusters(self._azure)

    @cached_property
    def _history(self) -> History:
        return History(self._azure)

    @cached_property
    def _region(self) -> str:
        """Where the workspace truly lies, which is where its machines do."""
        name = self._azure.scope.workspace
        found = self._azure.call(lambda client: client.workspaces.get(name), LOOK_S)
        return str(found.location or "").lower().replace(" ", "")

    @cached_property
    def _datastore(self) -> tuple[str, str]:
        """The account and the container that the datastore of runs is for."""
        name = self._settings.checked_datastore()
        found: Any = self._azure.call(lambda client: client.datastores.get(name), LOOK_S)
        return str(getattr(found, "account_name", "")), str(getattr(found, "container_name", ""))

    def _left(self, since: float) -> float:
        """How many seconds a launch may still take. Raises `TransientError` where they are few."""
        left = LAUNCH_S - (self._context.clock.monotonic() - since)
        if left < LEAST_S:
            raise TransientError(
                "Azure ML: getting ready took so long that no job was asked for",
                nothing_was_created=True,
            )
        return left

    def _check_workspace(self, request: Request) -> None:
        """That the workspace lies where the prices are from, and reaches the run's container.

        Raises `InvalidRequestError`.
        """
        region = self._settings.checked_region()
        if self._region != region:
            raise InvalidRequestError(
                f"Azure ML: the workspace lies in {self._region[:40]}, not in {region}",
                mend=f"export {REGION}={self._region[:40]}",
                nothing_was_created=True,
            )
        ours = (self._context.environment.get(ACCOUNT, ""), request.parcel.container)
        if self._datastore != ours:
            there = " of ".join(cleaned(part, 80) for part in reversed(self._datastore))
            raise InvalidRequestError(
                f"Azure ML: the datastore {request.datastore} is the container {there}, and the"
                f" run's store is {' of '.join(reversed(ours))}",
                mend=f"set {DATASTORE} to a datastore for that container; see the README",
                nothing_was_created=True,
            )

    def _prepare(self, request: Request, parcel: bytes) -> None:
        """Before anything is created: whatever goes wrong here, nothing was launched."""
        place = request.parcel
        try:
            self._check_workspace(request)
            store = open_store(place.store_url, self._context.environment)
            within(PARCEL_S, lambda: store.put(place.path, parcel), who="Azure")
        except Exception as error:
            why = self._meaning(error)
            why.nothing_was_created = True
            raise why from error

    def _forget(self, place: Place) -> None:
        store = open_store(place.store_url, self._context.environment)
        within(PARCEL_S, lambda: store.delete(place.path), who="Azure")

    def _clean_up(self, request: Request) -> None:
        """After a refusal: what nobody will fetch, and no job will run on, is taken away again."""
        self._forget(request.parcel)
        if self._settings.makes_clusters:
            self._clusters.delete(request.name)

    def _found(self, machine_id: str) -> JobView | None:
        try:
            return self._azure.call(lambda client: _view(client.jobs.get(machine_id)))
        except Exception as error:
            if is_not_found(error, machine_id):
                return None
            raise

    def _cancel(self, machine_id: str) -> None:
        try:
            self._azure.call(lambda client: client.jobs.begin_cancel(machine_id, polling=False))
        except Exception:
            job = self._found(machine_id)
            if job is not None and job.status not in {*ENDED, "CancelRequested"}:
                raise

    def _sighting(self, job: JobView) -> Sighting:
        """Why a job has ended, and when, is asked for where it has."""
        ended = job.status in ENDED
        ending = ending_of(self._history.details(job.name)) if ended else None
        seen = sighting_of(
            job,
            self._context.clock.now(),
            ending=ending,
            ended_by_us=job.name in self._ended,
            has_run=job.name in self._has_run,
        )
        if seen.phase is Phase.RUNNING:
            self._has_run.add(job.name)
        return seen

    def _with_machines(self, seen: Sighting) -> Sighting:
        """A job may be called running for a while after its machine was taken back."""
        if not self._clusters.was_taken_back(seen.machine_id):
            return seen
        detail = f"{seen.detail}; its machine was taken back"
        return replace(seen, phase=Phase.PREEMPTED, detail=detail)

    def _with_cluster(self, seen: Sighting) -> Sighting:
        """A job is not gone as long as its cluster is there."""
        if seen.may_bill or not self._clusters.state(seen.machine_id):
            return seen
        return _left_over(seen.machine_id)


def _created(client: "MLClient", request: Request, cluster: str) -> JobView:
    return _view(client.jobs.create_or_update(command_of(request, cluster)))


def _listed(client: "MLClient") -> list[JobView]:
    """Every job of ours, archived ones too. One that cannot be read makes the list an error."""
    jobs: list[Any] = list(client.jobs.list(tag=TAG, list_view_type="All"))
    if None in jobs:
        raise ValueError("Azure ML's list holds a job that cannot be read")
    return [view for view in map(_view, jobs) if OURS.fullmatch(view.name)]


def _view(job: Any) -> JobView:
    """What we look at of the SDK's own type; whatever it lacks is not known."""
    compute = str(getattr(job, "compute", "") or "").rpartition("/")[2]
    inputs = getattr(job, "inputs", None) or {}
    timeout = getattr(getattr(job, "limits", None), "timeout", None)
    return JobView(
        name=str(job.name),
        status=str(getattr(job.status, "value", job.status)),
        cluster=compute if compute.startswith("kwz") else "",
        parcel=str(getattr(inputs.get(INPUT), "path", "") or "").partition("/paths/")[2],
        timeout_s=timeout if type(timeout) is int else None,
    )


def _left_over(name: str) -> Sighting:
    return Sighting(name, Phase.STOPPING, name, detail="its cluster is still there")
