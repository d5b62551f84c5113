import pytest

from kwanzaa_compute.market.workload import (
    count_tokens_from_characters,
    packed_rows,
    workload,
)


def test_the_first_users_data_is_half_a_million_tokens_in_four_epochs(small_job):
    assert 4 * small_job.tokens_per_epoch == pytest.approx(0.53e6, rel=0.02)
    assert small_job.data_tokens == pytest.approx(4 * small_job.tokens_per_epoch)


def test_tokens_from_characters_carry_a_range_and_say_how(olmo):
    count = count_tokens_from_characters(4000, messages=3)
    assert count.low < count.expected == 1000 + 15 < count.high
    assert "4,000 characters" in count.provenance
    assert "3 messages" in count.provenance


@pytest.mark.parametrize(("characters", "messages", "ratio"), [(-1, 0, 4), (1, -1, 4), (1, 0, 0)])
def test_nonsense_counts_are_refused(characters, messages, ratio):
    with pytest.raises(ValueError, match="negative"):
        count_tokens_from_characters(characters, messages=messages, characters_per_token=ratio)


def test_packing_short_samples_fills_rows_to_97_percent():
    assert packed_rows(100 * 314, 100, 2048) == pytest.approx(31400 / 2048 / 0.97, abs=1)


def test_packing_the_first_users_long_samples_needs_about_as_many_rows_as_it_really_does():
    """First-fit packing of that data set gives 74 rows, 88 % full."""
    assert packed_rows(133_505, 107, 2048) == pytest.approx(74, abs=4)


def test_packing_never_needs_more_rows_than_samples_and_nothing_needs_none():
    assert packed_rows(10**9, 10, 2048) == 10
    assert packed_rows(5, 10, 2048) == 1
    assert packed_rows(0, 10, 2048) == 0


def job(**changed):
    asked = {
        "tokens_per_epoch": 100_000,
        "samples": 100,
        "row_tokens": 2048,
        "rows_per_step": 16,
        "epochs": 3,
    }
    return workload(**{**asked, **changed})


def test_without_packing_every_sample_takes_a_whole_row():
    assert job(packing=False).rows_per_epoch == 100
    assert job(packing=True).rows_per_epoch < 100


def test_padding_is_computed_but_is_no_data():
    unpacked = job(packing=False)
    assert unpacked.computed_tokens == 3 * 100 * 2048
    assert unpacked.data_tokens == pytest.approx(300_000)


def test_max_steps_ends_the_run_early():
    short = job(packing=False, max_steps=2)
    assert short.steps == 2
    assert short.computed_tokens == 2 * 16 * 2048


def test_evaluations_follow_the_configs_rhythm():
    assert job(eval_rows=10, eval_every_steps=5).evaluations >= 2
    assert job(eval_rows=10).evaluations == 3
    assert job(eval_rows=0, eval_every_steps=5).eval_tokens == 0
    assert job(eval_rows=10).eval_tokens == 3 * 10 * 2048


@pytest.mark.parametrize("empty", [{"tokens_per_epoch": 0}, {"samples": 0}, {"epochs": 0}])
def test_a_run_on_nothing_is_refused(empty):
    with pytest.raises(ValueError, match="needs"):
        job(**empty)
