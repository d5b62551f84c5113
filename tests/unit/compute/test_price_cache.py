"""The last answers of providers: kept whole, read back honestly, harmless in every other case."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kwanzaa_compute.compute.price_cache import PriceCache
from kwanzaa_compute.market.gpus import find_gpu, unknown_gpu
from kwanzaa_compute.market.offers import Availability, Offer

NOW = 1_795_502_400.0  # 2026-11-24T06:40:00Z
L4 = find_gpu("L4")
assert L4 is not None
OFFER = Offer(
    provider="moon",
    id="l4",
    gpu=L4,
    gpu_count=2,
    machines=2,
    usd_per_hour=Decimal("1.2345678"),
    spot=True,
    region="north, pole",
    availability=Availability.LOW,
    billing_step_s=60,
    minimum_s=600,
    disk_usd_per_gib_hour=Decimal("0.0001"),
    disk_gib=40.5,
    source="a live answer",
    as_of="2026-11-24T06:00:00Z",
    attended=True,
)


@pytest.fixture
def cache(tmp_path: Path) -> PriceCache:
    return PriceCache(tmp_path / "home" / "prices")


def recalled(cache: PriceCache, now: float = NOW) -> tuple[Offer, ...]:
    answer = cache.recall("moon", now)
    assert answer is not None
    return answer.offers


def test_an_answer_comes_back_as_it_was_but_for_what_it_no_longer_knows(cache: PriceCache) -> None:
    odd = replace(OFFER, id="odd", gpu=unknown_gpu("MI300X", 192), usd_per_hour=None, disk_gib=None)
    cache.keep("moon", (OFFER, odd), NOW)
    source = "answer of 2026-11-24T06:40:00Z: a live answer"
    changed = {"availability": Availability.UNKNOWN, "source": source, "cached": True}
    assert recalled(cache) == (replace(OFFER, **changed), replace(odd, **changed))


@pytest.mark.parametrize("as_of", ["", "yesterday", "2027-01-01", "2026-11-25T00:00:00Z"])
def test_a_price_is_as_old_as_its_answer_at_least(cache: PriceCache, as_of: str) -> None:
    cache.keep("moon", [replace(OFFER, as_of=as_of)], NOW)
    assert recalled(cache, NOW + 9e6)[0].as_of == "2026-11-24T06:40:00Z"


def test_an_older_price_stays_as_old_as_its_source_says(cache: PriceCache) -> None:
    cache.keep("moon", [replace(OFFER, as_of="2026-01-16")], NOW)
    assert recalled(cache)[0].as_of == "2026-01-16"


def test_an_answer_of_the_future_is_none(cache: PriceCache) -> None:
    cache.keep("moon", [OFFER], NOW)
    assert cache.recall("moon", NOW - 1) is None


def test_this_machine_and_an_empty_answer_are_not_kept(cache: PriceCache) -> None:
    cache.keep("moon", [OFFER], NOW)
    cache.keep("moon", [], NOW + 1)
    cache.keep("moon", [replace(OFFER, own_machine=True)], NOW + 2)
    answer = cache.recall("moon", NOW + 3)
    assert answer is not None
    assert answer.asked_at == NOW


def test_only_its_owner_can_read_it_and_it_holds_nothing_but_offers(cache: PriceCache) -> None:
    cache.keep("moon", [OFFER], NOW)
    (file,) = cache.folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    document = json.loads(file.read_text())
    assert set(document) == {"schema", "provider", "asked_at", "columns", "rows"}
    assert set(document["columns"]) < set(Offer.__slots__)


@pytest.mark.parametrize("name", ["../../moon", "moon/..", "", ".", "mo\x00on", "m" * 300])
def test_a_providers_name_never_leaves_the_folder(cache: PriceCache, name: str) -> None:
    cache.keep(name, [OFFER], NOW)
    cache.recall(name, NOW)
    outside = {path.name for path in cache.folder.parent.iterdir()}
    assert outside == {"prices"}


def test_a_damaged_file_is_as_good_as_none(cache: PriceCache) -> None:
    cache.keep("moon", [OFFER, replace(OFFER, id="other")], NOW)
    (file,) = cache.folder.iterdir()
    whole = file.read_bytes()
    draw = random.Random(7)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        file.write_bytes(
            damaged[: draw.randint(0, len(damaged))] if draw.random() < 0.5 else damaged
        )
        answer = cache.recall("moon", NOW)
        for offer in answer.offers if answer else ():
            assert offer.usd_per_hour is None or offer.usd_per_hour > 0
            assert isinstance(offer.billing_step_s, int)


def _first_row(document: dict[str, Any], column: str, value: object) -> dict[str, Any]:
    document["rows"][0][document["columns"].index(column)] = value
    return document


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("usd_per_hour", 1.5),
        ("usd_per_hour", {}),
        ("gpu_count", "2"),
        ("gpu_count", True),
        ("spot", 1),
        ("billing_step_s", None),
        ("disk_gib", "much"),
        ("disk_usd_per_gib_hour", "much"),
        ("gpu", "a GPU that nobody knows"),
        ("gpu", {"name": "half"}),
        ("gpu", 7),
    ],
)
def test_a_field_of_another_type_makes_it_unusable(
    cache: PriceCache, column: str, value: object
) -> None:
    cache.keep("moon", [OFFER], NOW)
    (file,) = cache.folder.iterdir()
    file.write_text(json.dumps(_first_row(json.loads(file.read_text()), column, value)))
    assert cache.recall("moon", NOW) is None


@pytest.mark.parametrize("price", ["0", "-3", "NaN", "Infinity", "free"])
def test_a_price_that_is_none_is_unknown_and_never_free(cache: PriceCache, price: str) -> None:
    cache.keep("moon", [OFFER], NOW)
    (file,) = cache.folder.iterdir()
    file.write_text(json.dumps(_first_row(json.loads(file.read_text()), "usd_per_hour", price)))
    assert recalled(cache)[0].usd_per_hour is None


def test_a_disk_that_cannot_be_written_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "prices").write_text("a file where the folder should be")
    cache = PriceCache(tmp_path / "prices")
    cache.keep("moon", [OFFER], NOW)
    assert cache.recall("moon", NOW) is None


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from kwanzaa_compute.compute.price_cache import PriceCache
from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.market.offers import Offer

cache, who = PriceCache(Path(sys.argv[1])), sys.argv[2]
offer = Offer("moon", who, find_gpu("L4"))
for number in range(150):
    cache.keep("moon", [replace(offer, region=str(n)) for n in range(200)], float(number))
    answer = cache.recall("moon", 1e9)
    assert answer, "torn"
    assert len({o.id for o in answer.offers}) == 1 and len(answer.offers) == 200, "mixed"
"""


def test_processes_that_write_at_once_never_read_half_an_answer(cache: PriceCache) -> None:
    command = [sys.executable, "-c", WRITER, str(cache.folder)]
    writers = [subprocess.Popen([*command, name], env=os.environ) for name in ("a", "b", "c")]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    assert [path.name for path in cache.folder.iterdir()] == ["moon.json"]
