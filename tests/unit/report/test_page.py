"""The page of a plan: complete, harmless, and asking nobody for anything."""

import re
import subprocess
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from html.parser import HTMLParser

import pytest

from kwanzaa_compute.market.gpus import find_gpu
from kwanzaa_compute.market.offers import Offer, Requirements
from kwanzaa_compute.market.plan import Plan, Settings, Task, make_plan
from kwanzaa_compute.market.prices import bundled_offers
from kwanzaa_compute.market.recipe import Recipe
from kwanzaa_compute.market.shapes import find_shape
from kwanzaa_compute.market.sizing import disk_needed, memory_needed
from kwanzaa_compute.market.workload import workload
from kwanzaa_compute.report import plan_page
from kwanzaa_compute.report.chart import pareto

NOW = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
HOSTILE = "<script src=http://evil.example/x.js></script>\"'&\x1b[31m<img src=x onerror=alert(1)>"
LOADS = {"src", "href", "srcset", "action", "data", "poster", "xlink:href", "background"}


def plan_of(*offers: Offer) -> Plan:
    shape, recipe = find_shape("allenai/OLMo-7B-Instruct-hf"), Recipe()
    needs = Requirements(
        memory_needed(shape, recipe).total_gib, disk_needed(shape, recipe).total_gib
    )
    job = workload(
        tokens_per_epoch=500_000, samples=107, row_tokens=2048, rows_per_step=16, epochs=4
    )
    return make_plan(needs, offers, Task(job, shape, recipe), Settings(now=NOW))


@cache
def bundled() -> Plan:
    return plan_of(*bundled_offers())


def hostile() -> Plan:
    good = Offer("runpod", "a", find_gpu("L4"), usd_per_hour=Decimal("0.8"), as_of="2026-11-01")
    bad = replace(good, provider=HOSTILE, id=HOSTILE, region=HOSTILE, source=HOSTILE, as_of=HOSTILE)
    return plan_of(good, bad, replace(bad, usd_per_hour=None))


class Elements(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def test_the_page_has_every_candidate_and_every_refusal_with_its_reason():
    page = plan_page(bundled(), title="mine")
    assert page.count("<tr>") >= len(bundled().candidates) + len(bundled().refused)
    for refusal in bundled().refused:
        assert refusal.reason.replace("'", "&#x27;").replace('"', "&quot;") in page
    for part in ("Pareto", "price age", "GPU memory", "Premises", "set-up"):
        assert part in page


def test_one_point_for_each_candidate_and_the_front_among_them():
    page = plan_page(bundled(), title="mine")
    front = pareto(bundled().candidates)
    assert page.count("<circle") == len(bundled().candidates)
    assert page.count('class="front"') == len(front)


def test_nothing_is_cheaper_and_quicker_than_a_machine_of_the_front():
    front = pareto(bundled().candidates)
    for chosen in front:
        assert not any(
            c.usd.expected <= chosen.usd.expected and c.hours.expected < chosen.hours.expected
            for c in bundled().candidates
        )
    assert front[0].usd.expected == bundled().best.usd.expected


@pytest.mark.parametrize("plan", [bundled, hostile, plan_of])
def test_the_page_asks_for_nothing_and_runs_nothing(plan):
    page = plan_page(plan(), title=HOSTILE, warnings={HOSTILE: HOSTILE})
    found = Elements(page)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(found.tags)
    assert not {name for name, _ in found.attributes if name in LOADS or name.startswith("on")}
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "\x1b" not in page
    assert re.search(r"Content-Security-Policy\" content=\"default-src 'none'", page)


def test_a_plan_without_any_offer_says_so():
    assert "No offer fits this run." in plan_page(plan_of(), title="mine")


def test_a_huge_plan_stays_readable_and_says_what_it_leaves_out():
    offer = Offer("runpod", "a", find_gpu("L4"), usd_per_hour=Decimal("0.8"), as_of="2026-11-01")
    offers = [replace(offer, usd_per_hour=Decimal(n) / 1000) for n in range(200, 5200)]
    page = plan_page(plan_of(*offers), title="mine")
    assert "and 4,000 more" in page
    assert len(page) < 2_000_000


def test_light_and_dark_follow_the_readers_system():
    assert "prefers-color-scheme: dark" in plan_page(bundled(), title="mine")


@pytest.mark.slow
def test_a_real_browser_shows_it_without_any_request(require_tool, tmp_path):
    chromium = require_tool("chromium")
    page, log = tmp_path / "plan.html", tmp_path / "net.json"
    page.write_text(plan_page(hostile(), title=HOSTILE), encoding="utf-8")
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--log-net-log={log}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    assert "Cheapest for the whole run" in done.stdout
    assert done.stdout.count("<circle") == 2
    assert "<script" not in done.stdout
    assert "<img" not in done.stdout
    assert "&lt;script src=http://evil.example/x.js&gt;" in done.stdout
    requests = log.read_text(encoding="utf-8", errors="replace")
    assert "evil.example" not in requests


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "page_colour"), [("1", (255, 255, 255)), ("0", (13, 17, 23))])
def test_a_real_browser_paints_it_light_or_dark(require_tool, tmp_path, scheme, page_colour):
    """Whoever prefers dark pages gets one: Blink's settings call that 0, and light 1."""
    page, picture = tmp_path / "plan.html", tmp_path / "plan.png"
    page.write_text(plan_page(plan_of(), title="mine"), encoding="utf-8")
    command = [require_tool("chromium"), "--headless", "--no-sandbox", "--disable-gpu"]
    command += ["--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--blink-settings=preferredColorScheme={scheme}", "--window-size=400,300"]
    command += [f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=90, check=True)
    assert first_pixel(picture.read_bytes()) == page_colour


def first_pixel(png):
    """Red, green and blue of the upper left corner; no filter of PNG changes the very first."""
    chunks, at = b"", 8
    while at < len(png):
        size, kind = int.from_bytes(png[at : at + 4]), png[at + 4 : at + 8]
        chunks += png[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    return tuple(zlib.decompress(chunks)[1:4])
