"""SageMaker on loopback: its wire protocol over machines that really run, beside moto's S3.

S3, STS, IAM and CloudWatch's logs are moto's, in a process of its own. SageMaker and the price
list are ours. A container's rights are its execution role's: it asks for credentials as it does
on AWS, and gets them from STS.
"""

import json
import secrets
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from kwanzaa_compute.drivers.contract import ProviderInfo
from kwanzaa_compute.testing.loopback.cloud import QUICK
from kwanzaa_compute.testing.loopback.wire import Reply, Request, WireServer
from kwanzaa_compute.testing.weather import Faults, Weather
from kwanzaa_compute_sagemaker.aws import Aws
from kwanzaa_compute_sagemaker.driver import LOG_GROUP
from kwanzaa_compute_sagemaker.settings import IMAGE, KMS_KEY
from kwanzaa_compute_sagemaker.settings import ROLE as ROLE_VARIABLE
from kwanzaa_compute_sagemaker.simulated.account import (
    KEY_ID,
    REGION,
    ROLE,
    SECRET_KEY,
    Account,
    places,
)
from kwanzaa_compute_sagemaker.simulated.api import Api, refused, troubles
from kwanzaa_compute_sagemaker.simulated.hosts import TrainingCloud
from kwanzaa_compute_sagemaker.simulated.jobs import Jobs
from kwanzaa_compute_sagemaker.simulated.moto import MotoServer


class SageMakerSimulator:
    """An AWS without an account. `cloud` is its truth, `server` its API, `account` its customer."""

    def __init__(
        self,
        folder: Path,
        *,
        weather: Weather = QUICK,
        faults: Faults | None = None,
        capacity: Mapping[str, int] | None = None,
        moto: MotoServer | None = None,
        grace_s: float = 5.0,
        restart_s: float = 20.0,
    ) -> None:
        """`moto` may be shared by several; `capacity` limits offers by their id."""
        self.account = Account()
        self._folder, self._weather, self._faults = folder, weather, faults
        self._capacity, self._moto = capacity, moto
        self._grace_s, self._restart_s = grace_s, restart_s
        self.bucket = f"simulated-{secrets.token_hex(6)}"

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        if self._moto is None:
            self._moto = self._stack.enter_context(MotoServer())
        self.moto = self._moto
        self.cloud = TrainingCloud(
            places(self._capacity), self._folder, weather=self._weather, faults=self._faults
        )
        self.server = WireServer(self._handle, on_error=troubles)
        self._inside.call("s3", "create_bucket", Bucket=self.bucket)
        self._logged: dict[str, int] = {}
        self.jobs = Jobs(
            self.cloud,
            channels=self._channels,
            credentials_url=self.server.url,
            grace_s=self._grace_s,
            restart_s=self._restart_s,
        )
        self._api = Api(self.account, self.jobs, has_bucket=self._has_bucket, logs=self._logs)
        return self

    def __exit__(self, *_: object) -> None:
        self.cloud.close()
        self.server.close()
        self._stack.close()

    @property
    def endpoint(self) -> str:
        """Where SageMaker, the price list and the logs listen."""
        return self.server.url

    @property
    def store_url(self) -> str:
        """A bucket of moto's."""
        return f"s3://{self.bucket}"

    @property
    def environment(self) -> Mapping[str, str]:
        """Credentials, a region, a role; of the user's own only how many instances a job has."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_SESSION_TOKEN": "",
            "AWS_PROFILE": "",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.moto.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
            **{f"AWS_ENDPOINT_URL_{name}": "" for name in ("S3", "STS", "LOGS", "SAGEMAKER")},
            "AWS_ENDPOINT_URL_PRICING": "",
            ROLE_VARIABLE: ROLE,
            IMAGE: "",
            KMS_KEY: "",
        }

    def adapt(self, info: ProviderInfo) -> ProviderInfo:
        """The same promises, in seconds."""
        return replace(info, simulated=True, settle_s=1.0, boot_s=120.0, stop_reserve_s=5.0)

    # -- inside -------------------------------------------------------------------------------

    @cached_property
    def _inside(self) -> Aws:
        """How AWS's services speak to each other here."""
        return Aws({**self.environment, "AWS_ENDPOINT_URL": self.moto.url}, REGION)

    def _handle(self, request: Request) -> Reply:
        if request.path.startswith("/role/"):
            return self._role_of(request)
        with self.cloud.at_once():
            return self._api.handle(request)

    def _role_of(self, request: Request) -> Reply:
        """The execution role's credentials, for the container that shows its token."""
        job = self.jobs.by_name.get(request.path.removeprefix("/role/"))
        shown = request.headers.get("authorization", "")
        if job is None or not secrets.compare_digest(shown, job.key):
            return refused("AccessDeniedException", "not this container", 403)
        role = job.request["RoleArn"]
        answer = self._inside.call("sts", "assume_role", RoleArn=role, RoleSessionName="SageMaker")
        made = answer["Credentials"]
        ends = datetime.fromtimestamp(made["Expiration"].timestamp(), UTC)
        body = {
            "RoleArn": role,
            "AccessKeyId": made["AccessKeyId"],
            "SecretAccessKey": made["SecretAccessKey"],
            "Token": made["SessionToken"],
            "Expiration": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
        }
        return Reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _channels(self, request: Mapping[str, Any]) -> dict[str, bytes]:
        files = {}
        for channel in request.get("InputDataConfig", []):
            where = urlsplit(channel["DataSource"]["S3DataSource"]["S3Uri"])
            bucket, prefix = where.netloc, where.path.lstrip("/")
            listed = self._inside.call("s3", "list_objects_v2", Bucket=bucket, Prefix=prefix)
            for item in listed.get("Contents", []):
                got = self._inside.call("s3", "get_object", Bucket=bucket, Key=item["Key"])
                name = item["Key"].removeprefix(prefix).lstrip("/")
                files[f"{channel['ChannelName']}/{name}"] = got["Body"].read()
        return files

    def _has_bucket(self, bucket: str) -> bool:
        listed = self._inside.call("s3", "list_buckets")["Buckets"]
        return bucket in {one["Name"] for one in listed}

    def _logs(self, operation: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """What containers have printed since the last question goes to CloudWatch; then it says."""
        for job in self.jobs.by_name.values():
            for number, room in enumerate(job.rooms, 1):
                self._log(f"{job.name}/algo-{number}-{round(job.created_at)}", room)
        method = {"DescribeLogStreams": "describe_log_streams", "GetLogEvents": "get_log_events"}
        try:
            answer = self._inside.call("logs", method[operation], **body)
        except Exception as error:
            response: Mapping[str, Any] = getattr(error, "response", {}).get("Error", {})
            from kwanzaa_compute_sagemaker.simulated.api import Refusal

            raise Refusal(response.get("Code", "InternalFailure"), "") from error
        return {key: value for key, value in answer.items() if key != "ResponseMetadata"}

    def _log(self, stream: str, room: str) -> None:
        lines = self.cloud.room.output(room)
        new = lines[self._logged.get(stream, 0) :]
        if not new:
            return
        group = {"logGroupName": LOG_GROUP}
        with suppress(Exception):  # it is there already
            self._inside.call("logs", "create_log_group", **group)
        with suppress(Exception):
            self._inside.call("logs", "create_log_stream", **group, logStreamName=stream)
        at = round(self.cloud.clock.at * 1000)
        events = [{"timestamp": at, "message": line or " "} for line in new]
        self._inside.call("logs", "put_log_events", **group, logStreamName=stream, logEvents=events)
        self._logged[stream] = len(lines)
