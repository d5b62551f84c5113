"""Malformed replies are seeded, and most of them are broken indeed."""

import json

from kwanzaa_compute.testing.malformed import malformed

VALID = {"pods": [{"id": "p1", "cost": 0.44, "gpu": {"count": 1}}, {"id": "p2", "cost": 1}]}


def test_the_same_seed_breaks_the_same_things() -> None:
    assert list(malformed(VALID, seed=3, count=50)) == list(malformed(VALID, seed=3, count=50))
    assert list(malformed(VALID, seed=3, count=50)) != list(malformed(VALID, seed=4, count=50))


def test_nearly_all_of_them_differ_from_the_valid_reply() -> None:
    def same(body: bytes) -> bool:
        try:
            return bool(json.loads(body) == VALID)
        except (ValueError, RecursionError):
            return False

    broken = list(malformed(VALID, seed=1, count=400))
    assert sum(same(one.body) and not one.headers for one in broken) < 60
    assert len({one.what for one in broken}) > 60


def test_the_valid_reply_stays_as_it_was() -> None:
    before = json.dumps(VALID)
    list(malformed(VALID, seed=2, count=100))
    assert json.dumps(VALID) == before
