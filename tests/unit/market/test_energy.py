"""Energy is an upper estimate, or unknown; never a figure out of nothing."""

import pytest

from kwanzaa_compute.market.energy import BOARD_W, most_kwh
from kwanzaa_compute.market.gpus import all_gpus


def test_boards_times_hours() -> None:
    assert most_kwh([("T4", 1, 10.0)]) == pytest.approx(0.7)
    assert most_kwh([("H100 SXM", 2, 1.5), ("L4", 1, 2.0)]) == pytest.approx(2.244)


def test_a_board_that_is_not_known_makes_the_whole_unknown() -> None:
    assert most_kwh([("T4", 1, 10.0), ("CPU", 1, 1.0)]) is None
    assert most_kwh([]) is None


def test_every_board_is_one_of_our_gpus() -> None:
    assert {*BOARD_W} <= {gpu.name for gpu in all_gpus()}
