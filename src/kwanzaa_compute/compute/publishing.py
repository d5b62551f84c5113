"""A finished run's adapters on their way to the Hub, each with a card that says what it took."""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kwanzaa_compute.clock import iso
from kwanzaa_compute.compute.run import Run
from kwanzaa_compute.config import TrainingConfig
from kwanzaa_compute.config.card import model_card
from kwanzaa_compute.drivers.plugins import build_publisher
from kwanzaa_compute.drivers.publication import Publication, Published
from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.market.energy import HOW, most_kwh
from kwanzaa_compute.runs.candidates import load_offers
from kwanzaa_compute.store.folder import CONFIG, Done, RunFolder
from kwanzaa_compute.store.objects import file_sha256

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute

CARD, CHECKSUMS = "README.md", "checksums.json"


def publish(
    compute: "Compute",
    run: Run,
    repo: str | None = None,
    *,
    private: bool = True,
    say: Callable[[str], None] = lambda _text: None,
) -> list[Published]:
    """Publishes every finished adapter of a run; publishing again goes on, or updates.

    `repo` is OWNER/NAME, or NAME for one of the token's own; default: `publishing.hf_repo` of the
    config. Of several adapters each goes to a repository of its own, NAME-MEMBER. Raises
    `RunError` where nothing is finished, `StoreError` where a file is damaged, `ProviderError`.
    """
    configs = {
        name: _config_of(folder) for name, folder in (run.members or {"": run.folder}).items()
    }
    named = repo or next(iter(configs.values())).publishing.hf_repo
    if not named:
        raise UsageError("no repository is named", mend="add --repo OWNER/NAME")
    send = build_publisher(compute.catalogue, compute.driver_context)
    published = []
    with tempfile.TemporaryDirectory(prefix="kwanzaa-") as folder:
        root = run.download(folder)
        for member, done in run.finished.items():
            there = f"{named}-{member}" if member else named
            _write_card(root / member, run, configs[member], done, there)
            say(f"publishing to {there}")
            published.append(send(Publication(there, root / member, private), say))
    return published


def _config_of(folder: RunFolder) -> TrainingConfig:
    return TrainingConfig.from_json(folder.store.get(CONFIG))


def _write_card(folder: Path, run: Run, config: TrainingConfig, done: Done, repo: str) -> None:
    """Puts the card in the place of the trainer's, which knew no prices, and its hash with it."""
    date = iso(run.record.created_at)[:10]
    card = model_card(config, done.summary, date, at=repo, took=what_it_took(run))
    (folder / CARD).write_text(card, encoding="utf-8")
    checksums = folder / CHECKSUMS
    if checksums.is_file():
        known = {**json.loads(checksums.read_text()), CARD: file_sha256(folder / CARD)}
        checksums.write_text(json.dumps(known, indent=1, sort_keys=True))


def what_it_took(run: Run) -> Mapping[str, str]:
    """Machines, hours, dollars and energy of a whole run, in words for a card."""
    receipt, attempts = run.receipt, run.attempts
    counts = {(o.provider, o.id): o.gpu_count for o in load_offers(run.record.candidates)}
    used = [
        (line.gpu, counts.get((attempt.provider, attempt.offer_id), 1), line.hours)
        for line, attempt in zip(receipt.lines, attempts, strict=True)
    ]
    kwh = most_kwh(used)
    shares = f", for the {len(run.members)} adapters of this run" if run.members else ""
    return {
        "Machines": ", ".join(_machines(used)),
        "Hours": f"{receipt.hours:.2f}{shares}",
        "Cost": f"${receipt.usd:.2f}{shares}",
        "Energy": "unknown" if kwh is None else f"at most {kwh:.2f} kWh (estimate: {HOW})",
    }


def _machines(used: Iterable[tuple[str, int, float]]) -> list[str]:
    """Each kind of machine once, in the order of first use."""
    return list(dict.fromkeys(f"{count} x {gpu}" if count > 1 else gpu for gpu, count, _ in used))
