"""What RunPod's own SDK sees at an address, as JSON. Runs in an environment of its own."""

import json
import os
import sys
import time

os.environ["RUNPOD_API_BASE_URL"] = sys.argv[1]

import runpod
from runpod.cli.utils.rp_info import get_pod_ssh_ip_port

runpod.api_key = sys.argv[2]
said = {"version": runpod.__version__}
said["gpus"] = [gpu["id"] for gpu in runpod.get_gpus()]
said["gpu"] = runpod.get_gpu("NVIDIA RTX A5000")["securePrice"]
made = runpod.create_pod(
    name="witness",
    image_name="some/image:1",
    gpu_type_id="NVIDIA RTX A5000",
    cloud_type="SECURE",
    container_disk_in_gb=20,
    docker_args="sleep 600",
    ports="22/tcp",
    env={"GREETING": "hello"},
)
said["made"] = made["id"]
last = time.monotonic() + 20
while (pod := runpod.get_pod(made["id"]))["runtime"] is None and time.monotonic() < last:
    time.sleep(0.05)
said["pod"] = {name: pod[name] for name in ("name", "desiredStatus", "costPerHr", "env", "ports")}
said["ssh"] = get_pod_ssh_ip_port(made["id"])
said["pods"] = [pod["name"] for pod in runpod.get_pods()]
try:
    runpod.create_pod("quoted", "i", "NVIDIA RTX A5000", docker_args='bash -c "echo hi"')
except runpod.error.QueryError as error:
    said["a quote that it does not escape"] = str(error)
runpod.stop_pod(made["id"])
said["stopped"] = runpod.get_pod(made["id"])["desiredStatus"]
runpod.terminate_pod(made["id"])
said["left"] = runpod.get_pods()
runpod.api_key = "wrong"
try:
    runpod.get_pods()
except runpod.error.AuthenticationError as error:
    said["a wrong key"] = str(error)
sys.stdout.write(json.dumps(said))
