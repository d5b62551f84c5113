"""The mark that tells one user's machines from another's: made once, kept in the home folder."""

import re
from collections.abc import Mapping
from pathlib import Path

from kwanzaa_compute.errors import UsageError


def known_owner(home: Path, environment: Mapping[str, str]) -> str:
    """The mark that is kept in `home`, or `$KWANZAA_OWNER`; "" where there is none yet.

    Raises `UsageError` for one with anything but small letters and digits: were there a dash in
    it, one owner's name could begin like another's.
    """
    try:
        owner = (home / "owner").read_text().strip()
    except FileNotFoundError:
        owner = environment.get("KWANZAA_OWNER", "")
    if owner and not re.fullmatch(r"[a-z0-9]{1,32}", owner):
        raise UsageError(
            f"{owner!r} cannot mark machines",
            mend="KWANZAA_OWNER takes at most 32 small letters and digits",
        )
    return owner


def adopt_owner(home: Path, owner: str) -> str:
    """Keeps the mark in `home`; one that is there already stays. Returns the one that holds."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with (home / "owner").open("x") as file:
            file.write(owner)
    except FileExistsError:
        return (home / "owner").read_text().strip()
    return owner
