"""What is known to be for sale: live answers, and for those that cannot be asked the next best.

A provider that answers is believed, also where it has nothing to sell. For one that cannot be
asked its last answer counts, or its rows of the bundled snapshot, whichever is newer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kwanzaa_compute.clock import iso
from kwanzaa_compute.compute.price_cache import FOLDER, PriceCache
from kwanzaa_compute.errors import CredentialsError, KwanzaaError, TransientError
from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.market.offers import Offer
from kwanzaa_compute.market.prices import bundled_offers

if TYPE_CHECKING:
    from kwanzaa_compute.compute.compute import Compute

OWN = "local"
"""The provider that is this machine: asking it needs no network."""


@dataclass(frozen=True, slots=True)
class ForSale:
    """What is for sale; a provider that could not be asked is a warning, no failure.

    `live` names the providers that have answered. `cached` maps others to the time (ISO, UTC) of
    their last answer, where that is what stands here for them.
    """

    offers: tuple[Offer, ...]
    warnings: Mapping[str, str]
    live: frozenset[str] = frozenset()
    without_key: frozenset[str] = frozenset()
    """Those that could not be asked because a credential is missing or refused."""
    unconfigured: frozenset[str] = frozenset()
    """Those for which nobody has set anything up here: no news, and no reason for a warning."""
    cached: Mapping[str, str] = field(default_factory=dict)


def ask_providers(compute: "Compute", names: Sequence[str]) -> ForSale:
    """The live offers of these providers, who are asked side by side; answers are kept."""
    if not names:
        return ForSale((), {})
    answers = _answers(compute, names)
    sold = {name: answer for name, answer in answers.items() if isinstance(answer, tuple)}
    failed = {
        n: answer.message for n, answer in answers.items() if isinstance(answer, KwanzaaError)
    }
    cache, now = price_cache(compute), compute.clock.now()
    for name, offers in sold.items():
        if not compute.catalogue.providers[name].simulated:  # nobody's prices
            cache.keep(name, offers, now)
    found = tuple(offer for offers in sold.values() for offer in offers)
    keyless = frozenset(n for n, a in answers.items() if isinstance(a, CredentialsError))
    unset = frozenset(n for n in failed if not _is_set_up(compute, n))
    return ForSale(found, failed, frozenset(sold), keyless | unset, unset)


def _is_set_up(compute: "Compute", name: str) -> bool:
    variables = compute.catalogue.providers[name].environment
    return not variables or any(compute.environment.get(variable) for variable in variables)


def _answers(
    compute: "Compute", names: Sequence[str]
) -> "dict[str, tuple[Offer, ...] | KwanzaaError]":
    def ask(name: str) -> tuple[Offer, ...] | KwanzaaError:
        try:
            return compute.provider(name).offers()
        except KwanzaaError as error:
            return error

    if len(names) == 1:
        return {names[0]: ask(names[0])}
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        return dict(zip(names, pool.map(ask, names), strict=True))


def known_offers(compute: "Compute", wanted: Sequence[str] = (), *, offline: bool) -> ForSale:
    """Live offers of the installed providers, and what is known of all others.

    `wanted` names providers (empty: all); a wrong name is a `UsageError`. `offline` asks none
    over the network.
    """
    bundled: dict[str, list[Offer]] = {}
    for offer in bundled_offers():
        bundled.setdefault(offer.provider, []).append(offer)
    installed = compute.catalogue.providers
    for name in wanted:
        if name not in bundled:
            compute.catalogue.find(name)  # says what to install, or what was meant
    names = list(wanted or dict.fromkeys([*installed, *bundled]))
    asked = [name for name in names if name in installed and (not offline or name == OWN)]
    for_sale = ask_providers(compute, asked)
    cache, now = price_cache(compute), compute.clock.now()
    rest: list[Offer] = []
    cached: dict[str, str] = {}
    for name in names:
        if name in for_sale.live:
            continue
        ours = bundled.get(name, [])
        last = cache.recall(name, now)
        if last and last.day >= max((offer.as_of for offer in ours), default=""):
            cached[name] = iso(last.asked_at)
            rest += last.offers
        else:
            rest += ours
    return replace(for_sale, offers=(*for_sale.offers, *rest), cached=cached)


def at_todays_price(for_sale: ForSale, ranked: Sequence[Candidate]) -> list[Candidate]:
    """Those of providers that have answered: a cached or bundled price is nobody's quote.

    Raises `CredentialsError` or `TransientError` where there are candidates, and none of their
    providers has.
    """
    asked = [candidate for candidate in ranked if candidate.offer.provider in for_sale.live]
    if ranked and not asked:
        silent = sorted({candidate.offer.provider for candidate in ranked})
        why = "; ".join(f"{n}: {for_sale.warnings.get(n, 'was not asked')}" for n in silent)
        message = f"nothing that fits can be bought at an old price ({why})"
        if for_sale.without_key.issuperset(silent):
            raise CredentialsError(message, mend="kwanzaa providers says which key each one needs")
        raise TransientError(message, mend="try again, or see kwanzaa doctor; nothing was started")
    return asked


def price_cache(compute: "Compute") -> PriceCache:
    """Where this user's last answers lie."""
    return PriceCache(compute.home / FOLDER)
