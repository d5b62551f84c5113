"""AutoTrain: what it claims, what it is told, and what is refused for want of words."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.compute import Options
from kwanzaa_compute.compute.simulation import compute_over
from kwanzaa_compute.config import TrainingConfig, parse
from kwanzaa_compute.drivers.contract import DriverContext, Job, Phase
from kwanzaa_compute.drivers.plugins import discover
from kwanzaa_compute.errors import CredentialsError, InvalidRequestError, QuotaError
from kwanzaa_compute.store import open_store
from kwanzaa_compute.testing.conformance import DriverConformance, Harness
from kwanzaa_compute.testing.samples import sample_job
from kwanzaa_compute_huggingface import kwanzaa_providers
from kwanzaa_compute_huggingface.autotrain import AutoTrainDriver
from kwanzaa_compute_huggingface.meaning import CannotExpressError
from kwanzaa_compute_huggingface.simulator import HubSimulator
from kwanzaa_compute_huggingface.simulator.hub import TOKEN
from kwanzaa_compute_huggingface.simulator.stand_ins import AUTOTRAIN
from kwanzaa_compute_huggingface.spaces import PAUSE_TOKEN
from kwanzaa_compute_huggingface.translation import parameters_of, refusals

CONFIG = "model: {base_model_id: org/base}\ndata: {train_file: train.jsonl}\n"
ROW = b'{"messages": [{"role": "user", "content": "Hi"}]}\n'


def config(**changes: object) -> TrainingConfig:
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return parse(CONFIG.encode(), Path("training.yaml"), dotted).config


@pytest.fixture
def context(hub: HubSimulator) -> DriverContext:
    return DriverContext({**hub.environment, PAUSE_TOKEN: TOKEN}, Clock(), hub.endpoint)


@pytest.fixture
def driver(context: DriverContext) -> AutoTrainDriver:
    return AutoTrainDriver(context)


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    url = (tmp_path / "store").as_uri()
    open_store(url).put("input/config.json", config().to_json())
    open_store(url).put("input/train.jsonl", ROW)
    return url


@pytest.fixture
def job(store_url: str) -> Callable[[str, float], Job]:
    return lambda name, _seconds: sample_job(name=name, store_url=store_url)


class TestAutoTrain(DriverConformance):
    """It says nothing of exit codes, and how long it works is its own affair."""

    @pytest.fixture
    def harness(
        self, hub: HubSimulator, driver: AutoTrainDriver, job: Callable[[str, float], Job]
    ) -> Harness:
        info = next(info for info in kwanzaa_providers() if info.name == "autotrain")
        return Harness(
            info=hub.adapt(info),
            driver=driver,
            clock=Clock(),
            job=job,
            preempt=hub.cloud.preempt,
        )


def launched(driver: AutoTrainDriver, job: Job) -> str:
    return driver.launch(job, next(iter(driver.offers())))


def test_its_space_is_told_what_our_config_says(
    hub: HubSimulator, driver: AutoTrainDriver, store_url: str
) -> None:
    machine_id = launched(driver, sample_job(store_url=store_url))
    assert machine_id == "loopback/autotrain-kwz-me-r1-1"
    space = hub.spaces.all[machine_id]
    assert space.secrets == {"HF_TOKEN": TOKEN}
    assert (space.variables["TASK_ID"], space.variables["MODEL"]) == ("9", "org/base")
    said = json.loads(space.variables["PARAMS"])
    assert (said["lora_r"], said["quantization"], said["data_path"]) == (
        16,
        "int4",
        "loopback/kwz-me-r1-1-data",
    )
    data = hub.repositories.all["dataset", "loopback/kwz-me-r1-1-data"]
    assert data.private
    assert data.files["train.jsonl"].content == ROW
    driver.terminate(machine_id)
    assert hub.repositories.all == {}
    assert hub.cloud.billing == []


def test_its_own_program_runs_and_pauses_the_space(
    hub: HubSimulator, driver: AutoTrainDriver, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = "kwanzaa_compute_huggingface.simulator.stand_ins.AUTOTRAIN"
    text = AUTOTRAIN.replace('os.environ.get("AUTOTRAIN_STAND_IN_S", "600")', "0.2")
    monkeypatch.setattr(quick, text)
    machine_id = launched(driver, sample_job(store_url=store_url))
    clock = Clock()
    last = clock.monotonic() + 60
    while not (seen := driver.inspect(machine_id)).detail.startswith("PAUSED"):
        assert clock.monotonic() < last, seen
        clock.sleep(0.05)
    assert seen.phase is Phase.EXITED
    assert any("training org/base on loopback/" in line for line in driver.logs(machine_id))
    assert hub.cloud.billing == []


@pytest.mark.parametrize("named", [(), ("autotrain",)])
def test_no_plan_ever_picks_it(hub: HubSimulator, tmp_path: Path, named: tuple[str, ...]) -> None:
    """Not even where it is asked for by its name: it cannot run the trainer."""
    (tmp_path / "training.yaml").write_text(
        "model: {base_model_id: meta-llama/Llama-3.2-1B-Instruct}\n"
        "data: {train_file: train.jsonl}\n"
    )
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Oh"}]}
    (tmp_path / "train.jsonl").write_text((json.dumps(row) + "\n") * 8)
    with_jobs = {"hf-jobs": hub, "autotrain": hub}
    compute = compute_over(with_jobs, discover(), tmp_path / "home", environment={})
    planned = compute.plan(tmp_path / "training.yaml", Options(providers=named))
    assert [c for c in planned.plan.candidates if c.offer.provider == "autotrain"] == []
    refused = [r for r in planned.plan.refused if r.offer.provider == "autotrain"]
    assert refused
    assert all("custom-code" in str(r) for r in refused)


def test_its_files_hold_no_token(
    hub: HubSimulator, driver: AutoTrainDriver, store_url: str
) -> None:
    launched(driver, sample_job(store_url=store_url))
    for repository in hub.repositories.all.values():
        assert not [f for f in repository.files.values() if TOKEN.encode() in f.content]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model__revision": "abc"}, "model.revision"),
        ({"data__packing": False}, "data.packing"),
        ({"data__system_prompt": "Be brief."}, "data.system_prompt"),
        ({"data__format": "prompt_completion_jsonl"}, "data.format"),
        ({"training__max_steps": 8}, "training.max_steps"),
        ({"training__num_train_epochs": 1.5}, "training.num_train_epochs"),
        ({"training__adam_beta2": 0.95}, "training.adam_beta2"),
        ({"training__early_stopping__enabled": True}, "training.early_stopping"),
        ({"adapter__lora__bias": "all"}, "adapter.lora.bias"),
        ({"adapter__quantization__bnb_4bit_quant_type": "fp4"}, "bnb_4bit_quant_type"),
    ],
)
def test_what_it_has_no_words_for_is_refused_by_name(
    changes: dict[str, object], named: str
) -> None:
    with pytest.raises(CannotExpressError, match=named):
        parameters_of(config(**changes), project="x", data_path="me/x")


def test_what_it_can_say_is_not_refused() -> None:
    assert refusals(config()) == []
    said = parameters_of(
        config(
            adapter__method="lora",
            adapter__lora__target_modules=["q_proj", "v_proj"],
            training__num_train_epochs=2.0,
            run__mixed_precision="fp16",
        ),
        project="x",
        data_path="me/x",
    )
    assert (said["quantization"], said["target_modules"]) == (None, "q_proj,v_proj")
    assert (said["epochs"], said["mixed_precision"]) == (2, "fp16")


def test_a_refused_config_creates_nothing(
    hub: HubSimulator, driver: AutoTrainDriver, store_url: str
) -> None:
    odd = config(training__max_steps=8)
    open_store(store_url).put("input/config.json", odd.to_json())
    with pytest.raises(CannotExpressError) as caught:
        launched(driver, sample_job(store_url=store_url))
    meaning = driver.classify(caught.value)
    assert isinstance(meaning, InvalidRequestError)
    assert meaning.nothing_was_created
    assert hub.repositories.all == {}


def test_no_token_is_handed_out_that_the_user_has_not_named_for_it(
    hub: HubSimulator, store_url: str
) -> None:
    driver = AutoTrainDriver(DriverContext(hub.environment, Clock(), hub.endpoint))
    with pytest.raises(Exception, match=PAUSE_TOKEN) as caught:
        launched(driver, sample_job(store_url=store_url))
    assert isinstance(driver.classify(caught.value), CredentialsError)
    assert hub.repositories.all == {}


def test_a_launch_that_is_refused_leaves_no_data_behind(
    hub: HubSimulator, driver: AutoTrainDriver, store_url: str
) -> None:
    hub.credit_usd = 0  # type: ignore[assignment]
    with pytest.raises(Exception, match="402") as caught:
        launched(driver, sample_job(store_url=store_url))
    assert isinstance(driver.classify(caught.value), QuotaError)
    assert hub.repositories.all == {}
