"""A simulated list of retail prices: pages, filters, and rows that are not what they seem."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from kwanzaa_compute.testing.loopback.wire import Reply, Request
from kwanzaa_compute_azureml.prices import SERVICE, Meter
from kwanzaa_compute_azureml.retail import PATH

REGION = "eastus"
STARTED = "2025-04-01T00:00:00Z"
USD_PER_HOUR: Mapping[str, tuple[str, str, str]] = {
    "Standard_NC4as_T4_v3": ("0.526", "0.204246", "0.1052"),
    "Standard_NC8as_T4_v3": ("0.752", "0.292002", "0.1504"),
    "Standard_NC6s_v3": ("3.06", "0.565488", "0.612"),
    "Standard_NV6ads_A10_v5": ("0.454", "0.0839", "0.0908"),
    "Standard_NV36ads_A10_v5": ("3.2", "0.59136", "0.64"),
    "Standard_NC24ads_A100_v4": ("3.673", "0.746721", "0.7346"),
    "Standard_NC48ads_A100_v4": ("7.346", "1.493442", "1.4692"),
    "Standard_NC40ads_H100_v5": ("6.98", "2.192418", "1.396"),
    "Standard_ND96asr_v4": ("27.197", "5.98334", "5.4394"),
    "Standard_ND96isr_H100_v5": ("98.32", "18.169536", "19.664"),
}
"""Regular, Spot and Low Priority; of the order of Azure's own in 2026, and nobody's quote."""

_CONDITION = re.compile(r"(\w+) eq '((?:[^']|'')*)'|startswith\((\w+), '((?:[^']|'')*)'\)")
_NAMES = {"priceType": "type"}


@dataclass(slots=True)
class RetailPages:
    """Answers questions about prices. `rows` may be changed by a test."""

    url: Callable[[], str]
    """Where it can be reached, for the address of the next page."""
    page_size: int = 20
    """Azure: 1,000."""
    rows: list[dict[str, Any]] = field(default_factory=lambda: list(price_rows()))

    def handles(self, request: Request) -> bool:
        """Whether this request is about prices."""
        return request.path == PATH

    def handle(self, request: Request) -> Reply:
        """One page of the rows that the filter is for; 400 for a filter that it cannot read."""
        asked = {name: values[-1] for name, values in request.query.items()}
        conditions = _conditions(asked.get("$filter", ""))
        if conditions is None or request.method != "GET":
            return Reply(400, {"Error": {"Code": "InvalidInput", "Message": "Invalid filter"}})
        found = [row for row in self.rows if all(holds(row) for holds in conditions)]
        start = int(asked.get("$skip", "0"))
        page = found[start : start + self.page_size]
        more = start + self.page_size < len(found)
        following = urlencode({**asked, "$skip": start + self.page_size})
        return Reply(
            200,
            {
                "BillingCurrency": "USD",
                "CustomerEntityId": "Default",
                "CustomerEntityType": "Retail",
                "Items": page,
                # Azure names the port, though it is the usual one.
                "NextPageLink": f"{self.url()}{PATH}?{following}" if more else None,
                "Count": len(page),
            },
        )


def price_rows() -> Iterator[dict[str, Any]]:
    """All rows: for each size those that count, among others that look like them."""
    for size, prices in USD_PER_HOUR.items():
        for meter, usd in zip(Meter, prices, strict=True):
            yield row(size, meter, usd)
            yield row(size, meter, usd, region="westeurope", raised="1.3")
            for product in ("Series Windows", "Srs Win"):
                yield row(size, meter, usd, product=product, raised="1.5")
        regular = prices[0]
        yield row(size, Meter.REGULAR, regular, raised="0.5", type="DevTestConsumption")
        yield row(
            size, Meter.REGULAR, regular, raised="0.9", effectiveStartDate="2099-01-01T00:00:00Z"
        )
        yield row(size, Meter.REGULAR, regular, raised="0.8", isPrimaryMeterRegion=False)
        for term, hours in (("1 Year", 8760), ("3 Years", 26280)):
            whole = str(Decimal("0.6") * hours)
            yield row(
                size, Meter.REGULAR, regular, raised=whole, type="Reservation", reservationTerm=term
            )
    yield row("Standard_NV4as_v4", Meter.REGULAR, "0.233")
    yield row("Standard_D4s_v5", Meter.REGULAR, "0.192")


def row(
    size: str,
    meter: Meter,
    usd: str,
    *,
    region: str = REGION,
    product: str = "Series",
    raised: str = "1",
    **other: Any,
) -> dict[str, Any]:
    """One row as Azure writes it, at `raised` times the price; `other` fields replace its own."""
    name = size.removeprefix("Standard_").replace("_", " ")
    named = name if meter is Meter.REGULAR else f"{name} {meter}"
    price = float(Decimal(usd) * Decimal(raised))
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": region,
        "location": "US East" if region == REGION else "EU West",
        "effectiveStartDate": STARTED,
        "meterId": f"meter-{size}-{meter}-{region}".lower().replace(" ", "-"),
        "meterName": named,
        "productId": "DZH318Z0CSHJ",
        "skuId": "DZH318Z0CSHJ/0001",
        "productName": f"Virtual Machines {name} {product}",
        "skuName": named,
        "serviceName": SERVICE,
        "serviceId": "DZH313Z7MMC8",
        "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": size,
        **other,
    }


Condition = Callable[[Mapping[str, Any]], bool]


def _conditions(text: str) -> list[Condition] | None:
    """The parts of an OData filter that are joined by `and`; None where one cannot be read."""
    found: list[Condition] = []
    for part in filter(None, text.split(" and ")):
        match = _CONDITION.fullmatch(part.strip())
        if match is None:
            return None
        found.append(_condition(*match.groups()))
    return found


def _condition(
    equal: str | None, value: str | None, begins: str | None, start: str | None
) -> Condition:
    name, text = (equal or begins or ""), (value or start or "").replace("''", "'")
    key = _NAMES.get(name, name)
    if equal:
        return lambda row: row.get(key) == text
    return lambda row: str(row.get(key, "")).startswith(text)
