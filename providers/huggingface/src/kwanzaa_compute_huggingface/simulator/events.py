"""Server-sent events, as the Hub sends its logs."""

import json
from collections.abc import Iterable, Iterator


def events(lines: Iterable[str], timestamp: str) -> Iterator[bytes]:
    """One event a line."""
    for line in lines:
        said = json.dumps({"timestamp": timestamp, "data": line})
        yield f"data: {said}\n\n".encode()
