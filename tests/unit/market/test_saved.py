import json

import pytest

from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.market.plan import Plan, Settings, Task, make_plan
from kwanzaa_compute.market.prices import bundled_offers


@pytest.fixture
def plan(requirements, small_job, olmo, recipe, snapshot_day):
    settings = Settings(now=snapshot_day)
    return make_plan(requirements, bundled_offers(), Task(small_job, olmo, recipe), settings)


def test_a_saved_plan_is_read_back_equal(plan):
    assert Plan.from_json(plan.to_json()) == plan


def test_a_plan_from_before_answers_were_counted_is_still_read(plan):
    raw = json.loads(plan.to_json())
    del raw["workload"]["answers"]
    assert Plan.from_json(json.dumps(raw)) == plan


def test_money_is_saved_as_text_so_that_no_reader_makes_it_a_float(plan):
    raw = json.loads(plan.to_json())
    assert raw["candidates"][0]["usd"]["expected"] == str(plan.best.usd.expected)
    assert raw["candidates"][0]["offer"]["usd_per_hour"] == "0.39"


def test_people_can_read_why_in_it(plan):
    raw = json.loads(plan.to_json())
    assert raw["schema"] == "kwanzaa-plan"
    assert "tokens/s" in raw["candidates"][0]["why"]
    assert all(refusal["reason"] for refusal in raw["refused"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "nonsense",
        '{"schema": "kwanzaa-plan", "version": 1}',
        '{"schema": "kwanzaa-plan", "version": 99}',
    ],
)
def test_what_is_no_plan_of_this_version_is_refused_with_what_to_do(text):
    with pytest.raises(UsageError, match="make the plan again"):
        Plan.from_json(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("candidates", 0, "usd"), {"expected": "free", "p95": "1", "worst": "1"}),
        (("candidates", 0, "offer", "availability"), "plenty"),
        (("candidates", 0, "offer", "surprise"), 1),
        (("refused", 0, "code"), "mood"),
        (("requirements", "precision"), "any"),
        (("workload",), None),
    ],
)
def test_a_damaged_plan_is_refused(plan, path, value):
    raw = json.loads(plan.to_json())
    place = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(UsageError, match="damaged plan"):
        Plan.from_json(json.dumps(raw))
