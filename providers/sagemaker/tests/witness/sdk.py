"""What AWS's own SageMaker SDK sees of a job, as JSON. Runs in an environment of its own."""

import json
import os
import sys
import tempfile
from pathlib import Path

endpoint, name, command = sys.argv[1:4]
config = Path(tempfile.mkdtemp(), "config.yaml")
config.write_text(
    "SchemaVersion: '1.0'\nSageMaker: {PythonSDK: {Modules: {TelemetryOptOut: true}}}\n"
)
os.environ |= {
    "SAGEMAKER_USER_CONFIG_OVERRIDE": str(config),
    "AWS_ENDPOINT_URL": endpoint,
    "AWS_EC2_METADATA_DISABLED": "true",
}

import boto3  # noqa: E402 -- what it reads is set first
from sagemaker.core.resources import TrainingJob  # noqa: E402

job = TrainingJob.get(name, session=boto3.Session(), region=os.environ["AWS_REGION"])
said = {"got": [job.training_job_name, job.training_job_status, job.secondary_status]}
job.refresh()
said["spot"] = job.enable_managed_spot_training
said["type"] = job.resource_config.instance_type
said["limits"] = [
    job.stopping_condition.max_runtime_in_seconds,
    job.stopping_condition.max_wait_time_in_seconds,
]
if command == "stop":
    job.stop()
job.wait(poll=1, logs=False, timeout=60)
said["ended"] = [job.training_job_status, job.secondary_status]
sys.stdout.write(json.dumps(said))
