"""`plan` and `offers`: what it would cost, for people and for programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.market.plan import Plan

Cli = Callable[..., Any]


def test_a_plan_ranks_what_fits_and_says_what_is_not_applied(cli: Cli, config: Path) -> None:
    result = cli("plan", config, "--offline")
    assert result.code == 0
    assert "tiny: ./base" in result.out
    assert "local" in result.out
    assert "free" in result.out
    assert "refused" in result.out
    assert "line 3: run.dataloader_num_workers: not applied" in result.err
    assert "\x1b" not in result.out + result.err


def test_a_plan_in_json_has_every_offer(cli: Cli, config: Path) -> None:
    result = cli("plan", config, "--offline", "--json", "--max-usd", "5", "--budget", "500")
    assert result.code == 0
    plan = result.json
    assert plan["schema"] == 1
    assert plan["name"] == "tiny"
    assert plan["max_usd"] == "5"
    assert plan["candidates"][0]["offer"]["provider"] == "local"
    assert plan["candidates"][0]["usd"]["expected"] == "0"
    assert all(refusal["reason"] for refusal in plan["refused"])
    assert plan["notes"][0]["key"] == "run.dataloader_num_workers"
    assert plan["budget"] == {"usd": "500", "runs": None}


def test_explain_shows_each_candidate_each_cost_and_each_refusal(cli: Cli, config: Path) -> None:
    short = cli("plan", config, "--offline")
    full = cli("plan", config, "--offline", "--explain")
    assert "--explain shows all" in short.out
    assert "--explain" not in full.out
    assert "Arm machine: the image and libraries are built for x86" in full.out
    assert "best: local CPU" in full.out
    assert "model load" in full.out


def test_a_budget_is_told_in_runs(cli: Cli, config: Path, moonbase: str) -> None:
    paid = cli("plan", config, "--provider", moonbase, "--budget", "500")
    assert "$500.00 pays for " in paid.out
    free = cli("plan", config, "--offline", "--provider", "local", "--budget", "500")
    assert "as many runs as you like" in free.out


def test_a_plan_can_be_saved(cli: Cli, config: Path, tmp_path: Path) -> None:
    result = cli("plan", config, "--offline", "--save", tmp_path / "plan.json")
    assert result.code == 0
    saved = Plan.from_json((tmp_path / "plan.json").read_text())
    assert saved.candidates[0].offer.provider == "local"
    assert cli("plan", config, "--save", tmp_path / "no" / "plan.json").code == 2


def test_where_nothing_fits_the_reasons_are_shown_and_the_exit_code_is_4(
    cli: Cli, config: Path
) -> None:
    result = cli("plan", config, "--offline", "--gpu", "H200", "--provider", "local")
    assert result.code == 4
    assert "no offer fits this run" in result.out
    assert "CPU is not the H200 that was asked for" in result.out
    assert cli("train", config, "--gpu", "H200", "--provider", "local").code == 4


def test_options_win_over_the_config(cli: Cli, config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text((tmp_path / "train.jsonl").read_text().splitlines()[0])
    more = ("--train-file", other, "--max-steps", "3", "--max-hours", "2")
    plan = cli("plan", config, "--offline", "--json", *more).json
    assert plan["data"]["samples"] == 1
    assert plan["workload"]["steps"] <= 3
    assert plan["max_hours"] == 2.0


def test_a_folder_that_is_typed_is_meant_from_here(
    cli: Cli, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "base").rename(here / "other")
    monkeypatch.chdir(here)
    assert cli("plan", config, "--offline").code != 0
    assert cli("plan", config, "--offline", "--base-model", "other").code == 0


def test_offers_are_filtered_and_sorted_by_the_hour(cli: Cli) -> None:
    offers = cli("offers", "--offline", "--json", "--bf16", "--min-vram", "70", "--on-demand").json
    found = offers["offers"]
    prices = [float(offer["usd_per_hour"]) for offer in found if offer["usd_per_hour"]]
    assert prices
    assert prices == sorted(prices)
    assert {offer["spot"] for offer in found} == {False}
    assert min(offer["vram_gib"] * offer["gpu_count"] for offer in found) >= 70


def test_offers_name_source_and_age_of_each_price(cli: Cli) -> None:
    result = cli("offers", "--offline", "--gpu", "A100")
    assert result.code == 0
    rows = result.out.splitlines()[1:]
    assert rows
    assert all("A100" in row and "bundled snapshot" in row for row in rows)
    assert all(" day" in row or "today" in row for row in rows)
    assert cli("offers", "--gpu", "Abacus").code == 4


def test_an_installed_provider_is_asked(cli: Cli, moonbase: str) -> None:
    found = cli("offers", "--provider", moonbase, "--json").json["offers"]
    assert [(offer["id"], offer["usd_per_hour"]) for offer in found] == [("l4", "1.00")]


def test_a_success_rate_makes_adapters_of_runs(cli: Cli, config: Path, moonbase: str) -> None:
    words = ("--provider", moonbase, "--budget", "500", "--success-rate", "0.8")
    told = cli("plan", config, *words, "--adapter-usd", "10", "--subscription", "49.99/100")
    assert "80% succeed: " in told.out
    assert "to break even" in told.out
    assert "after the budget" in told.out
    assert "$49.99 a month for 100 h: $0.50 an hour" in told.out
    budget = cli("plan", config, *words, "--json").json["budget"]
    assert budget["adapters"] == budget["runs"] * 8 // 10 < budget["runs"]
    assert "return" not in budget


@pytest.mark.parametrize(
    "words",
    [
        ("--success-rate", "0"),
        ("--success-rate", "80"),
        ("--success-rate", "NaN"),
        ("--adapter-usd", "NaN"),
        ("--subscription", "50"),
        ("--subscription", "50/0"),
        ("--validation-hours", "-1"),
        ("--experiment-hours", "nan"),
    ],
)
def test_premises_of_nonsense_are_a_usage_error(
    cli: Cli, config: Path, words: tuple[str, str]
) -> None:
    assert cli("plan", config, "--offline", "--budget", "500", *words).code == 2


def test_hours_beside_the_training_are_on_the_bill(cli: Cli, config: Path, moonbase: str) -> None:
    def expected(*words: str) -> float:
        plan = cli("plan", config, "--provider", moonbase, "--json", *words).json
        return float(plan["candidates"][0]["usd"]["expected"])

    extra = expected("--validation-hours", "0.5", "--experiment-hours", "1") - expected()
    assert extra == pytest.approx(1.5 * 1.1, rel=0.01)


def test_explain_shows_memory_line_by_line_and_set_up_against_speed(cli: Cli, config: Path) -> None:
    full = cli("plan", config, "--offline", "--explain").out
    assert "GPU memory: " in full
    assert "base weights" in full
    assert "dequantisation" in full
    assert "set-up against speed" in full
    plan = cli("plan", config, "--offline", "--json").json
    assert f"{len(plan['refused'])} offers refused" in full
    for refusal in plan["refused"]:
        assert refusal["reason"] in full


def test_a_provider_that_is_not_installed_can_be_planned_for(cli: Cli, config: Path) -> None:
    plan = cli("plan", config, "--offline", "--provider", "runpod", "--json")
    assert plan.code == 0
    assert {c["offer"]["provider"] for c in plan.json["candidates"]} == {"runpod"}
    assert cli("plan", config, "--offline", "--provider", "runpot").code == 2
    assert cli("train", config, "--provider", "runpod", "--yes", "--max-usd", "1").code == 4


def test_a_spot_machine_is_shown_with_the_price_up_to_which_it_pays(cli: Cli, config: Path) -> None:
    both = cli("plan", config, "--offline", "--provider", "azureml", "--explain").out
    assert "above it on-demand is cheaper" in both
    assert "(Young, Daly)" in both


def test_a_plan_is_written_as_a_page(cli: Cli, config: Path, tmp_path: Path) -> None:
    result = cli("plan", config, "--offline", "--report", tmp_path / "plan.html")
    assert result.code == 0
    page = (tmp_path / "plan.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "<h1>tiny</h1>" in page
    assert cli("plan", config, "--offline", "--report", tmp_path / "no" / "p.html").code == 2


def test_a_machine_that_only_a_watcher_ends_is_marked(
    cli: Cli, config: Path, moonbase: str
) -> None:
    words = ("plan", config, "--provider", moonbase, "--max-usd", "5")
    assert "only a watcher ends a machine of moonbase" in cli(*words).out
    (candidate,) = cli(*words, "--json").json["candidates"]
    assert "only a watcher ends this machine" in candidate["marks"][-1]
