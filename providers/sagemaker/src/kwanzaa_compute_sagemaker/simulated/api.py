"""SageMaker, the price list and CloudWatch's logs, as AWS speaks them: JSON 1.1 and SigV4."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from kwanzaa_compute.testing.loopback.wire import DROPPED, Reply, Request
from kwanzaa_compute.testing.weather import RateLimitedError, SimError, TimedOutError
from kwanzaa_compute_sagemaker.simulated.account import REGION, Account, price_list
from kwanzaa_compute_sagemaker.simulated.hosts import count_of
from kwanzaa_compute_sagemaker.simulated.jobs import ENDED, Jobs, TrainingJob
from kwanzaa_compute_sagemaker.simulated.model import faults_of_request

SKEW_S = 300
SERVICES = {"SageMaker": "sagemaker", "AWSPriceListService": "pricing", "Logs_20140328": "logs"}
Logs = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/")


class Refusal(Exception):  # noqa: N818 -- it is AWS's answer, not our error
    """An answer other than 200: AWS's code for it, its words, its status."""

    def __init__(self, code: str, words: str, status: int = 400) -> None:
        super().__init__(words)
        self.code, self.status = code, status


class Api:
    """Answers one request at a time with the truth of `jobs`."""

    def __init__(
        self, account: Account, jobs: Jobs, *, has_bucket: Callable[[str], bool], logs: Logs
    ) -> None:
        """`has_bucket` asks S3; `logs` answers for CloudWatch."""
        self._account, self._jobs = account, jobs
        self._has_bucket, self._logs = has_bucket, logs

    def handle(self, request: Request) -> Reply:
        """One call."""
        try:
            return _answer(200, self._answered(request))
        except Refusal as refusal:
            return refused(refusal.code, str(refusal), refusal.status)

    def _answered(self, request: Request) -> Mapping[str, Any]:
        prefix, _, operation = request.headers.get("x-amz-target", "").partition(".")
        if prefix not in SERVICES:
            raise Refusal("UnknownOperationException", "", 404)
        service = SERVICES[prefix]
        self._admit(request, operation)
        body = json.loads(request.body or b"{}")
        if faults := faults_of_request(service, operation, body):
            words = f"{len(faults)} validation error(s) detected: {'; '.join(faults)}"
            raise Refusal("ValidationException", words)
        return self._do(service, operation, body)

    def _do(self, service: str, operation: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if service == "logs":
            return self._logs(operation, body)
        match operation:
            case "CreateTrainingJob":
                return self._create(body)
            case "DescribeTrainingJob":
                return _described(self._find(body), self._jobs)
            case "ListTrainingJobs":
                return self._list(body)
            case "StopTrainingJob":
                return self._stop(body)
            case "GetProducts":
                return self._products(body)
        raise Refusal("UnknownOperationException", f"{operation} is not simulated", 404)

    def _admit(self, request: Request, operation: str) -> None:
        match = _CREDENTIAL.match(request.headers.get("authorization", ""))
        if match is None:
            raise Refusal("MissingAuthenticationTokenException", "Missing Authentication Token")
        key, region, _service = match.groups()
        signed = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%S%z")
        now = self._jobs.now
        if abs(signed.timestamp() - now) > SKEW_S:
            at = f"{signed:%Y%m%dT%H%M%SZ}"
            raise Refusal("InvalidSignatureException", f"Signature expired: {at} is now earlier")
        if key in self._account.expired:
            words = "The security token included in the request is expired"
            raise Refusal("ExpiredTokenException", words)
        if key not in self._account.keys or region != REGION:
            words = "The security token included in the request is invalid."
            raise Refusal("UnrecognizedClientException", words)
        if operation in self._account.denied:
            words = f"User is not authorized to perform: {operation}"
            raise Refusal("AccessDeniedException", words)

    def _find(self, body: Mapping[str, Any]) -> TrainingJob:
        job = self._jobs.by_name.get(body["TrainingJobName"])
        if job is None:
            # Not the ResourceNotFound of the model: the service says this.
            raise Refusal("ValidationException", "Requested resource not found.")
        return job

    def _create(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if body["TrainingJobName"] in self._jobs.by_name:
            words = "Training job names must be unique within an AWS account and region"
            raise Refusal("ResourceInUse", words)
        if words := self._rule_broken_by(body):
            raise Refusal("ValidationException", words)
        self._check_quota(body)
        return {"TrainingJobArn": self._jobs.create(body).arn}

    def _rule_broken_by(self, body: Mapping[str, Any]) -> str:
        stop, role = body["StoppingCondition"], body["RoleArn"]
        wait = stop.get("MaxWaitTimeInSeconds")
        if body.get("EnableManagedSpotTraining") != (wait is not None):
            return "MaxWaitTimeInSeconds must be given for managed spot training, and only there"
        if wait is not None and wait < stop["MaxRuntimeInSeconds"]:
            return "MaxWaitTimeInSeconds must be equal to or above MaxRuntimeInSeconds"
        if role not in self._account.roles:
            return (
                f"Could not assume role {role}. Please ensure that the role exists and allows"
                " principal 'sagemaker.amazonaws.com' to assume the role."
            )
        bucket = body["OutputDataConfig"]["S3OutputPath"].split("/")[2]
        return "" if self._has_bucket(bucket) else f"S3 bucket {bucket} was not found"

    def _check_quota(self, body: Mapping[str, Any]) -> None:
        instance = body["ResourceConfig"]["InstanceType"]
        allowed = self._account.quotas.get(instance)
        used = sum(
            job.count
            for job in self._jobs.by_name.values()
            if job.status not in ENDED and job.request["ResourceConfig"]["InstanceType"] == instance
        )
        more = count_of(body)
        if allowed is not None and used + more > allowed:
            spot = "spot " if body.get("EnableManagedSpotTraining") else ""
            raise Refusal(
                "ResourceLimitExceeded",
                f"The account-level service limit '{instance} for {spot}training job usage' is"
                f" {allowed} Instances, with current utilization of {used} Instances and a request"
                f" delta of {more} Instances. Please use AWS Service Quotas to request an increase"
                " for this quota.",
            )

    def _stop(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        job = self._find(body)
        if job.status in ENDED:
            words = f"The request was rejected because the training job is in status {job.status}."
            raise Refusal("ValidationException", words)
        self._jobs.stop(job)
        return {}

    def _list(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        rows = [
            _row(job)
            for job in self._jobs.by_name.values()
            if body.get("NameContains", "") in job.name
            and body.get("StatusEquals", job.status) == job.status
        ]
        most = min(body.get("MaxResults", 10), self._account.page_size)
        return _page(rows[::-1], "TrainingJobSummaries", body, most)

    def _products(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        rows = [text for text in price_list() if _passes(json.loads(text), body["Filters"])]
        return {
            **_page(rows, "PriceList", body, self._account.page_size),
            "FormatVersion": "aws_v1",
        }


def troubles(error: SimError) -> Reply:
    """How a cloud's troubles look here."""
    match error:
        case RateLimitedError():
            return refused("ThrottlingException", "Rate exceeded", 400)
        case TimedOutError():
            return DROPPED
        case _:
            return refused("InternalFailure", "", 500)


def refused(code: str, words: str, status: int) -> Reply:
    """An error as AWS words it in JSON 1.1."""
    return _answer(status, {"__type": code, "message": words})


def _answer(status: int, body: Mapping[str, Any]) -> Reply:
    headers = {"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": "simulated"}
    return Reply(status, json.dumps(body).encode(), headers)


def _row(job: TrainingJob) -> dict[str, Any]:
    shown = {
        "TrainingJobName": job.name,
        "TrainingJobArn": job.arn,
        "CreationTime": round(job.created_at, 3),
        "LastModifiedTime": round(job.transitions[-1][1], 3),
        "TrainingJobStatus": job.status,
        "SecondaryStatus": job.secondary,
    }
    return shown if job.ended_at is None else {**shown, "TrainingEndTime": round(job.ended_at, 3)}


def _described(job: TrainingJob, jobs: Jobs) -> dict[str, Any]:
    """Tags are not part of a description; everything else comes back as it was sent."""
    sent = {k: v for k, v in job.request.items() if k != "Tags"}
    output = sent["OutputDataConfig"]["S3OutputPath"]
    shown = {
        **sent,
        **_row(job),
        "ModelArtifacts": {"S3ModelArtifacts": f"{output}/{job.name}/output/model.tar.gz"},
        "SecondaryStatusTransitions": _transitions(job),
    }
    if job.started_at is not None:
        shown["TrainingStartTime"] = round(job.started_at, 3)
    if job.reason:
        shown["FailureReason"] = job.reason
    if job.ended_at is not None and jobs.trained_s(job) > 0:
        shown["TrainingTimeInSeconds"] = jobs.trained_s(job)
        shown["BillableTimeInSeconds"] = jobs.trained_s(job)
    return shown


def _transitions(job: TrainingJob) -> list[dict[str, Any]]:
    ends = [at for _, at in job.transitions[1:]]
    rows: list[dict[str, Any]] = []
    for index, (secondary, at) in enumerate(job.transitions):
        row = {"Status": secondary, "StartTime": round(at, 3), "StatusMessage": secondary}
        rows.append(row if index == len(ends) else {**row, "EndTime": round(ends[index], 3)})
    return rows


def _page(rows: list[Any], key: str, body: Mapping[str, Any], most: int) -> dict[str, Any]:
    first = int(body.get("NextToken", "0"))
    page = {key: rows[first : first + most]}
    return page if first + most >= len(rows) else {**page, "NextToken": str(first + most)}


def _passes(product: Mapping[str, Any], filters: list[Mapping[str, str]]) -> bool:
    attributes = product["product"]["attributes"]
    for one in filters:
        value = attributes.get(one["Field"], "")
        holds = one["Value"] in value if one["Type"] == "CONTAINS" else one["Value"] == value
        if not holds:
            return False
    return True
