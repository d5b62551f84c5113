"""Texts of providers that want to be obeyed: two hundred of them, in every field at once."""

import io
import json
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from unicodedata import category

import pytest

import kwanzaa_compute as kc
from kwanzaa_compute.cli.documents import attempt_document, event_document, look_document
from kwanzaa_compute.cli.live import line
from kwanzaa_compute.cli.look import look_at
from kwanzaa_compute.cli.plan_view import show_offers
from kwanzaa_compute.cli.run_view import show_run, show_runs
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.compute.strays import find_strays
from kwanzaa_compute.drivers.contract import Phase, Sighting
from kwanzaa_compute.errors import ProviderError
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import RunState
from kwanzaa_compute.testing.fakecloud import FakeCloud
from kwanzaa_compute.testing.plugin import compute_over
from kwanzaa_compute.testing.samples import sample_offer, sample_run

_BARE = (
    "; rm -rf / #",
    "$(touch pwned)",
    "`touch pwned`",
    "| touch pwned",
    "&& touch pwned",
    "> pwned",
    "'; DROP TABLE runs; --",
    '" OR 1=1 --',
    "../../../etc/passwd",
    "/etc/passwd\x00.json",
    "C:\\con\\con",
    "%s%s%s%n",
    "{0.__class__.__mro__}",
    "{{7*7}}",
    "${jndi:ldap://x/a}",
    "__import__('os').system('touch pwned')",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[red]markup[/red]",
    "[link=https://evil.invalid]here[/link]",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;https://evil.invalid\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[2J\x1b[H",
    '\x1bP$q"p\x1b\\',
    "\x9b31m",
    "\x00\x01\x02\x7f",
    "a\nb",
    "\r\nerror: all is well",
    "\u202eevil\u202c",
    "\u2028\u2029",
    "\ud800\udfff",
    "\ufeff",
    "\U0001f4a9" * 20,
    "e\u0301" * 50,
    "'\"\\",
    '{"a": [1,',
    "!!python/object/apply:os.system [id]",
    "- - - : : &a *a",
    "x" * 900,
)
_AROUND: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: f"l4{text}",
    lambda text: f"{text}l4",
    lambda text: f" {text} ",
    lambda text: f"{text}{text}"[:990],
)
INJECTIONS = tuple(around(text) for around in _AROUND for text in _BARE)


class Poisoned(FakeCloud):
    """A cloud whose every text is the same, except where it would no longer be our machine."""

    def __init__(self, text: str) -> None:
        self.text = text
        offers = [
            replace(sample_offer(), id=text, region=text, source=text, as_of=text),
            sample_offer(id="other"),
        ]
        super().__init__(offers=offers, preempt_at=(200,))
        self.sim.places[text, text] = replace(self.sim.places[text, text], offer=offers[0])

    def offers(self) -> Iterable[Offer]:
        for offer in super().offers():
            yield replace(offer, as_of=self.text)

    def inspect(self, machine_id: str) -> Sighting:
        return self._odd(super().inspect(machine_id))

    def fleet(self) -> Iterable[Sighting]:
        ours = [self._odd(sighting) for sighting in super().fleet()]
        return [*ours, Sighting("theirs", Phase.RUNNING, self.text, region=self.text)]

    def logs(self, machine_id: str) -> Iterable[str]:
        return [self.text]

    def classify(self, error: Exception) -> ProviderError:
        meaning = super().classify(error)
        return type(meaning)(self.text, mend=self.text, nothing_was_created=True)

    def _odd(self, sighting: Sighting) -> Sighting:
        return replace(sighting, region=self.text, detail=self.text)


def test_there_are_two_hundred_injections() -> None:
    assert len(INJECTIONS) >= 200


@pytest.mark.parametrize("group", range(10))
def test_no_text_of_a_provider_is_obeyed(
    group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, text in enumerate(INJECTIONS[group::10]):
        cloud = Poisoned(text)
        with compute_over(cloud, tmp_path / "home") as compute:
            name = f"poisoned{group}-{number}"
            compute.ledger = Ledger(f"file:/{name}?vfs=memdb", compute.clock)  # type: ignore[misc]
            run = _launched(compute, cloud)
            shown = _show_everything(compute, run)
            cloud.sim.faults = replace(cloud.sim.faults, sold_out=0.0)
            receipt = run.wait(poll_s=30)
            shown += _show_everything(compute, run)
        # An id that is no Unicode cannot be asked for again; that is said, and nothing is rented.
        no_unicode = {RunState.FAILED} if "\ud800" in text else set()
        assert receipt.state in {RunState.DONE, RunState.NO_CAPACITY} | no_unicode, repr(text)
        assert receipt.state is RunState.DONE or receipt.reason
        assert cloud.billing == []
        _is_harmless(shown, text)
    assert {path.name for path in tmp_path.iterdir()} <= {"home"}
    assert not {path.name for path in (tmp_path / "home").rglob("*")} & {"pwned", "passwd"}


def _launched(compute: kc.Compute, cloud: FakeCloud) -> kc.Run:
    offers = list(cloud.offers())
    url = f"{compute.store_root(None)}/runs/{cloud.clock.at}{id(cloud)}"
    run = sample_run(*offers, store_url=url, owner=compute.owner, created_at=cloud.clock.at)
    compute.ledger.add_run(replace(run, name="poisoned"))
    cloud.sim.faults = replace(cloud.sim.faults, sold_out=1.0)
    compute.supervisor().step_once("r1")
    return compute.run("r1")


def _show_everything(compute: kc.Compute, run: kc.Run) -> list[str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        screen = Screen()
        look = look_at(run, run.look())
        screen.write(line(look))
        show_runs(screen, [(run, look)])
        show_run(screen, run)
        show_offers(screen, list(compute.provider("fake").offers()), compute.clock.now())
        for stray in find_strays(compute).strays:
            screen.talk(str(stray))
        for words in run.logs():
            screen.raw(words)
        as_json = Screen(as_json=True)
        as_json.json(look_document(look))
        for attempt in run.attempts:
            as_json.json(attempt_document(attempt))
        for event in run.events:
            as_json.json(event_document(event))
    return [out.getvalue(), err.getvalue()]


def _is_harmless(shown: list[str], text: str) -> None:
    for part in shown:
        plain = "".join(row for row in part.splitlines(True) if not row.startswith('{"schema"'))
        odd = {c for c in plain if category(c) in {"Cc", "Cf", "Cs"}} - {"\n"}
        assert not odd, f"{text!r} reached the terminal as {odd}"
        for row in part.splitlines():
            if row.startswith('{"schema"'):
                json.loads(row)
