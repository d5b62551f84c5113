"""What a machine is asked for, what it gets, and what nobody gets to see."""

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.contract import DriverContext, Phase
from kwanzaa_compute.drivers.provider import Provider, RetryPolicy
from kwanzaa_compute.errors import (
    CredentialsError,
    InvalidRequestError,
    ProviderError,
    TransientError,
)
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.testing.conformance import Harness
from kwanzaa_compute.testing.loopback.wire import DROPPED, Reply
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_runpod.client import CREATE_S
from kwanzaa_compute_runpod.driver import SETTING, VOLUME, RunPodDriver
from kwanzaa_compute_runpod.images import DEFAULT, REGISTRY_S, Registry, parsed
from kwanzaa_compute_runpod.request import CACHE
from kwanzaa_compute_runpod.simulator import RunPodSimulator

PRINTS = (
    "import json, os, time; print(json.dumps(dict(os.environ)), flush=True);"
    " print(open('/proc/self/cmdline').read().replace(chr(0), ' '), flush=True); time.sleep(600)"
)

CACHES = (
    "import os, pathlib, time; home = pathlib.Path(os.environ['HF_HOME']);"
    " home.mkdir(exist_ok=True); base = home / 'base.bin';"
    " print('it was there' if base.exists() else base.name, flush=True);"
    " base.touch(); time.sleep(600)"
)


def body(simulator: RunPodSimulator) -> dict[str, object]:
    """The body of the newest create."""
    made = [r for r, _ in simulator.server.exchanges if (r.method, r.path) == ("POST", "/v2/pods")]
    found: dict[str, object] = made[-1].json()
    return found


def test_the_request_says_all_that_the_machine_needs(
    simulator: RunPodSimulator, harness: Harness
) -> None:
    offer = next(o for o in harness.driver.offers() if o.region == "community")
    harness.driver.launch(harness.job("kwz-me-l1-1", 600), offer)
    asked = body(simulator)
    assert asked["name"] == "kwz-me-l1-1"
    assert asked["gpu"] == {"id": offer.id, "count": 1, "minCudaVersion": "12.6"}
    assert asked["cloud"] == "COMMUNITY"
    assert asked["disk"] == 11
    assert "mounts" not in asked


def test_the_image_is_pinned_to_what_its_tag_means_today(
    simulator: RunPodSimulator, harness: Harness
) -> None:
    harness.launch(harness.job("kwz-me-l2-1", 600))
    name, _, digest = str(body(simulator)["image"]).partition("@")
    assert name == DEFAULT.name.partition(":")[0]
    assert digest == simulator.registry.digest(DEFAULT.name)


@pytest.mark.parametrize("kept", ["", "{", '{"a": 7}'])
def test_a_relaunch_gets_the_very_same_image_whoever_launches_it(
    simulator: RunPodSimulator,
    driver_of: Callable[..., RunPodDriver],
    harness: Harness,
    tmp_path: Path,
    kept: str,
) -> None:
    """Another run gets what the tag means by then; a file that is broken is written anew."""
    folder = tmp_path / "home" / "runpod" / "images"
    folder.mkdir(parents=True)
    (folder / "kwz-me-l3.json").write_text(kept)
    harness.launch(harness.job("kwz-me-l3-1", 600))
    first = str(body(simulator)["image"])
    assert first.endswith(simulator.registry.digest(DEFAULT.name))
    simulator.registry.moved[DEFAULT.name] = moved = "sha256:" + "0" * 64
    for name, same in (("kwz-me-l3-2", True), ("kwz-me-l33-1", False)):
        driver = driver_of(simulator)
        driver.launch(harness.job(name, 600), next(iter(driver.offers())))
        image = str(body(simulator)["image"])
        assert image == first if same else image.endswith(moved)


def test_an_image_that_is_pinned_needs_no_registry(
    simulator: RunPodSimulator, driver_of: Callable[..., RunPodDriver], harness: Harness
) -> None:
    mine = "ghcr.io/me/mine@sha256:" + "a" * 64
    driver = driver_of(simulator, **{SETTING: mine})
    driver.launch(harness.job("kwz-me-l4-1", 600), next(iter(driver.offers())))
    asked = body(simulator)
    assert asked["image"] == mine
    assert "minCudaVersion" not in asked["gpu"]  # type: ignore[operator]
    assert simulator.registry.server.exchanges == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (DROPPED, TransientError),
        (Reply(503), TransientError),
        (Reply(429), TransientError),
        (Reply(404), InvalidRequestError),
        (Reply(200), InvalidRequestError),
        (Reply(200, headers={"Docker-Content-Digest": "latest"}), InvalidRequestError),
        (Reply(401), InvalidRequestError),
        (
            Reply(401, headers={"WWW-Authenticate": 'Bearer realm="ftp://x/",service="y"'}),
            InvalidRequestError,
        ),
    ],
)
def test_an_image_that_cannot_be_pinned_is_not_launched(
    simulator: RunPodSimulator, provider: Provider, answer: Reply, kind: type[ProviderError]
) -> None:
    simulator.registry.server.interrupt("HEAD", ".*", answer)
    with pytest.raises(kind, match="nothing was launched") as caught:
        provider.launch(sample_job(), provider.offers()[0])
    assert caught.value.nothing_was_created
    assert simulator.cloud.sim.machines == {}


@pytest.mark.parametrize(
    ("image", "host", "name", "tag"),
    [
        ("ubuntu", "registry-1.docker.io", "library/ubuntu", "latest"),
        ("a/b:1", "registry-1.docker.io", "a/b", "1"),
        ("docker.io/a/b:1", "registry-1.docker.io", "a/b", "1"),
        ("ghcr.io/a/b/c:v1.2", "ghcr.io", "a/b/c", "v1.2"),
        ("localhost:5000/a:1", "localhost:5000", "a", "1"),
    ],
)
def test_an_images_name_is_read_as_docker_reads_it(
    image: str, host: str, name: str, tag: str
) -> None:
    assert parsed(image) == (host, name, tag, "")


@pytest.mark.parametrize(
    "image", ["", "a b", "../x", "a/../b", "a:b:c/d", "A", "a@sha256:1", "a?x", "a:\n", "x" * 300]
)
def test_what_is_no_image_is_refused(image: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="is no image") as caught:
        Registry("http://127.0.0.1:9", tmp_path).pinned(image, "kwz-me-l4-1")
    assert caught.value.nothing_was_created


def test_a_launch_ends_before_the_core_gives_it_up() -> None:
    assert (RetryPolicy().deadline_s or 0) > 3 * REGISTRY_S + CREATE_S


NAMES = ["", "pod", "kwz-", "kwz-a b", "kwz-;rm -rf /", "kwz-$(id)", "kwz-\n", "kwz-../x", "kwz-ü"]
VARIABLES = ["A B", "1A", "", "A=B", "RUNPOD_API_KEY", "A\n", "$A"]


@pytest.mark.parametrize("name", [*NAMES, "kwz-" + "x" * 300, "kwz-\0"])
def test_a_name_that_is_not_ours_to_give_is_refused(
    simulator: RunPodSimulator, provider: Provider, name: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        provider.launch(sample_job(name=name), provider.offers()[0])
    assert caught.value.nothing_was_created
    assert simulator.cloud.sim.machines == {}


@pytest.mark.parametrize("env", [*({name: "x"} for name in VARIABLES), {"A": "a\0b"}])
def test_a_variable_that_cannot_be_passed_on_is_refused(
    simulator: RunPodSimulator, provider: Provider, env: dict[str, str]
) -> None:
    with pytest.raises(InvalidRequestError):
        provider.launch(sample_job(env=env), provider.offers()[0])
    assert simulator.cloud.sim.machines == {}


def test_a_volume_is_mounted_as_the_cache_of_base_models(
    simulator: RunPodSimulator, driver_of: Callable[..., RunPodDriver], harness: Harness
) -> None:
    simulator.account.volumes["vol-1"] = "EU-RO-1"
    driver = driver_of(simulator, **{VOLUME: "vol-1"})
    argv = (sys.executable, "-c", CACHES)
    offer = next(iter(driver.offers()))
    machine_id = driver.launch(sample_job(name="kwz-me-l5-1", argv=argv), offer)
    asked = body(simulator)
    assert asked["mounts"] == {"network": [{"volumeId": "vol-1", "path": CACHE}]}
    assert asked["dataCenterIds"] == ["EU-RO-1"]
    assert asked["env"]["HF_HOME"] == f"{CACHE}/huggingface"  # type: ignore[index]
    room = simulator.cloud.room
    harness.until(lambda: "base.bin" in room.output(machine_id), "it has a base model there")
    harness.end(machine_id)
    assert simulator.account.volumes == {"vol-1": "EU-RO-1"}
    second = driver.launch(sample_job(name="kwz-me-l6-1", argv=argv), offer)
    harness.until(lambda: "it was there" in room.output(second), "the next one finds it")


@pytest.mark.parametrize("key", ["", "a key", "line\nbreak"])
def test_without_a_key_nothing_is_asked(
    simulator: RunPodSimulator, driver_of: Callable[..., RunPodDriver], key: str
) -> None:
    driver = driver_of(simulator, RUNPOD_API_KEY=key)
    with pytest.raises(CredentialsError, match="RUNPOD_API_KEY"):
        list(driver.offers())
    assert simulator.server.exchanges == []


def test_the_accounts_key_is_nowhere_but_in_our_requests_headers(
    simulator: RunPodSimulator, harness: Harness, provider: Provider
) -> None:
    """Not in the machine's variables or words, in what it prints, in a body, path or error."""
    key = simulator.account.key
    job = sample_job(
        name="kwz-me-l6-1",
        argv=(sys.executable, "-c", PRINTS),
        secrets={"KWANZAA_CODE_URL": Secret("https://signed")},
    )
    machine_id = harness.launch(job)
    room = simulator.cloud.room
    harness.until(lambda: len(room.output(machine_id)) >= 2, "it has printed")
    for path in (*Path("/proc").glob("[0-9]*/environ"), *Path("/proc").glob("[0-9]*/cmdline")):
        with suppress(OSError):  # a process that has ended, or is not ours
            assert key.encode() not in path.read_bytes()
    lines = list(harness.driver.logs(machine_id))  # type: ignore[attr-defined]
    assert any("https://signed" in line for line in lines)
    assert key not in "\n".join(lines)
    for request, reply in simulator.server.exchanges:
        said = (request.path, request.query, request.body, reply.body, reply.headers)
        assert key not in repr(said)
    assert "https://signed" not in repr(job)
    simulator.account.key = "another"
    with pytest.raises(CredentialsError) as caught:
        provider.fleet()
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert key not in "".join(f"{error!r} {error} {vars(error)}" for error in chain if error)


def test_a_driver_reads_nothing_but_its_context(
    simulator: RunPodSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", simulator.account.key)
    driver = RunPodDriver(DriverContext({}, Clock(), simulator.endpoint))
    with pytest.raises(CredentialsError):
        list(driver.fleet())


def test_somebody_elses_machines_are_not_seen(simulator: RunPodSimulator, harness: Harness) -> None:
    from kwanzaa_compute.testing.loopback import Command
    from kwanzaa_compute_runpod.simulated.pods import IDLE

    simulator.cloud.create("their-machine", ("NVIDIA L4", "secure"), Command(IDLE))
    machine_id = harness.launch(harness.job("kwz-me-l7-1", 600))
    assert [seen.machine_id for seen in harness.driver.fleet()] == [machine_id]


def test_a_stopped_machine_is_seen_as_one_that_works_no_more(
    simulator: RunPodSimulator, harness: Harness
) -> None:
    machine_id = harness.launch(harness.job("kwz-me-l8-1", 600))
    with simulator.cloud.at_once() as sim:
        sim.stop(sim.machines[machine_id])
    seen = harness.driver.inspect(machine_id)
    assert (seen.phase, seen.may_bill) == (Phase.EXITED, True)
    harness.end(machine_id)
