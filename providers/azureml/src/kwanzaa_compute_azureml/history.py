"""A workspace's run history: what the jobs' API leaves out. When a job ended, why, what it printed.

The SDK reads it for `jobs.stream` only, which prints. Its address is in the workspace's discovery.
"""

from typing import Any
from urllib.parse import urlsplit

from kwanzaa_compute.drivers.http import HttpClient, ReplyError, StatusError, bearer, segment
from kwanzaa_compute_azureml.azure import Azure
from kwanzaa_compute_azureml.identity import SECRET

NOT_FOUND = 404
LOGS = ("user_logs/std_log.txt", "user_logs/std_log_process_0.txt")
"""What the command printed, on one GPU or on the first of several."""
CALL_S = 20.0


class History:
    """The run history of one workspace."""

    def __init__(self, azure: Azure) -> None:
        """Asks nobody yet."""
        self._azure = azure
        self._address = ""

    def details(self, name: str) -> Any:
        """What is known of one job; None where it is not known there (yet)."""
        path = f"/history/v1.0{self._azure.scope.path}/runs/{segment(name)}/details"
        try:
            with self._client(self._found()) as client:
                return client.call("GET", path).json()
        except StatusError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def printed(self, name: str) -> list[str]:
        """The lines that a job has printed so far. Untrusted text."""
        details = self.details(name)
        files = details.get("logFiles") if isinstance(details, dict) else None
        for log in LOGS:
            url = files.get(log) if isinstance(files, dict) else None
            if isinstance(url, str) and url.startswith("https://"):
                # The address is signed, and of somebody else: our token does not go there.
                parts = urlsplit(url)
                with self._client(f"https://{parts.netloc}", own=False) as client:
                    answer = client.call("GET", f"{parts.path}?{parts.query}")
                return answer.content.decode("utf-8", "replace").splitlines()
        return []

    def _found(self) -> str:
        if not self._address:
            workspace = self._azure.call(lambda c: c.workspaces.get(self._azure.scope.workspace))
            parts = urlsplit(str(workspace.discovery_url))
            with self._client(f"https://{parts.netloc}") as client:
                address = str(client.call("GET", parts.path).json()["history"])
            if not address.startswith("https://"):
                raise ReplyError("the workspace's run history is not at an https address")
            self._address = address
        return self._address

    def _client(self, address: str, *, own: bool = True) -> HttpClient:
        authorization = bearer(self._azure.token(), SECRET) if own else None
        return HttpClient(
            address, authorization=authorization, total_s=CALL_S, ca_file=self._azure.ca_file
        )
