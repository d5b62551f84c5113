"""Temporary keys for other providers' machines, from a real STS, and botocore on the signature."""

import json
from urllib.parse import parse_qs

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.store import open_store
from kwanzaa_compute.store.grants import grant
from kwanzaa_compute.testing.loopback.wire import Reply, Request, WireServer
from kwanzaa_compute_sagemaker.simulated.account import ROLE, SECRET_KEY
from kwanzaa_compute_sagemaker.simulator import SageMakerSimulator

ANSWER = b"""<R><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
<SessionToken>t</SessionToken></Credentials></R>"""


def test_sts_gives_keys_that_reach_the_store(simulator: SageMakerSimulator) -> None:
    """By a federation token of the user's own, and by a role."""
    url = f"{simulator.store_url}/runs/r1"
    simulator._inside.call("s3", "put_object", Bucket=simulator.bucket, Key="runs/r1/x", Body=b"1")
    for more in ({}, {"KWANZAA_STORE_ROLE_ARN": ROLE}):
        environment = {**simulator.environment, **more}
        made = grant(url, environment, hours=2, now=Clock().now())
        held = {name: secret.reveal() for name, secret in made.secrets.items()}
        assert held["AWS_ACCESS_KEY_ID"] != environment["AWS_ACCESS_KEY_ID"]
        assert held["AWS_SESSION_TOKEN"]
        assert open_store(url, {**environment, **held}).get("x") == b"1"


def test_botocore_would_have_signed_it_the_same() -> None:
    """Headers, body and signature of the very request that arrived, signed again by botocore."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    with WireServer(lambda _request: Reply(200, ANSWER)) as server:
        for token in ("", "a-session-token"):
            environment = {
                "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_SESSION_TOKEN": token,
                "AWS_REGION": "eu-west-1",
                "AWS_ENDPOINT_URL_STS": server.url,
                "KWANZAA_STORE_ROLE_ARN": ROLE,
            }
            grant("s3://bucket/runs/r1", environment, hours=2, now=Clock().now())
            request: Request = server.exchanges[-1][0]
            sent = AWSRequest(
                "POST",
                f"{server.url}/",
                headers={
                    name: request.headers[name]
                    for name in ("content-type", "x-amz-date", "x-amz-security-token")
                    if name in request.headers
                },
                data=request.body,
            )
            sent.context["timestamp"] = request.headers["x-amz-date"]
            keys = Credentials("AKIAEXAMPLE", SECRET_KEY, token or None)
            signer = SigV4Auth(keys, "sts", "eu-west-1")
            canonical = signer.canonical_request(sent)
            signature = signer.signature(signer.string_to_sign(sent, canonical), sent)
            assert f"Signature={signature}" in request.headers["authorization"]
            policy = json.loads(parse_qs(request.body.decode())["Policy"][0])
            resources = [one["Resource"] for one in policy["Statement"]]
            assert resources == ["arn:aws:s3:::bucket/runs/r1/*", "arn:aws:s3:::bucket"]
