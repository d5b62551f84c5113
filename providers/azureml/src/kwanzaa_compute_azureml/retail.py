"""Azure's list of retail prices, read page by page. It asks for no account, and gets no key.

The list is asked for one region's GPU sizes at a time. Each page says where the next one is, by a
whole address: only its query counts, so that nobody sends us elsewhere.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.drivers.http import HttpClient, NoAnswerError, ReplyError
from kwanzaa_compute_azureml.prices import SERVICE

ENDPOINT = "https://prices.azure.com"
PATH = "/api/retail/prices"
VERSION = "2023-01-01-preview"
GPU_SIZES = "Standard_N"
"""How the names of sizes with GPUs begin. Names in a filter are case-sensitive."""
PAGE_S, TOTAL_S = 15.0, 40.0
MOST_PAGES = 40


def rows(
    client: HttpClient, region: str, clock: Clock, *, total_s: float = TOTAL_S
) -> Iterator[Any]:
    """Every row for GPU sizes in a region, of whatever kind, as it came.

    All pages together take `total_s` seconds at most. Raises `HttpFailure`: `StatusError` where
    Azure refuses (429: too many questions), `ReplyError` where a page is none.
    """
    params: dict[str, str | int] = {"api-version": VERSION, "$filter": _filter(region)}
    ends = clock.monotonic() + total_s
    for _ in range(MOST_PAGES):
        left = ends - clock.monotonic()
        if left <= 0:
            raise NoAnswerError(f"no whole list of prices within {total_s:g} s", sent=True)
        page = client.call("GET", PATH, params=params, total_s=min(PAGE_S, left)).json()
        if not isinstance(page, Mapping) or not isinstance(page.get("Items"), list):
            raise ReplyError("a page of Azure's prices has no Items")
        yield from page["Items"]
        following = _next(page)
        if following is None:
            return
        if following == params:
            raise ReplyError("a page of Azure's prices names itself as the next one")
        params = following
    raise ReplyError(f"Azure's prices have more than {MOST_PAGES} pages")


def _filter(region: str) -> str:
    wanted = {"serviceName": SERVICE, "armRegionName": region, "priceType": "Consumption"}
    said = [f"{name} eq '{_quoted(value)}'" for name, value in wanted.items()]
    return " and ".join([*said, f"startswith(armSkuName, '{GPU_SIZES}')"])


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _next(page: Mapping[str, Any]) -> dict[str, str | int] | None:
    link = page.get("NextPageLink")
    if link is None or link == "":
        return None
    try:
        query = urlsplit(link).query if isinstance(link, str) else ""
        found = parse_qsl(query, strict_parsing=True, max_num_fields=20)
    except ValueError:
        found = []
    if not found:
        raise ReplyError("a page of Azure's prices does not say where the next one is")
    return dict(found)
