"""`download`: the finished adapter, from the store to a folder here."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kwanzaa_compute.cli.options import AsJson, RunId, open_compute
from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.cli.words import many
from kwanzaa_compute.errors import EXIT_OK

Target = Annotated[Path | None, Parameter(help="A folder; default: the config's output folder.")]


def download(run: RunId, target: Target = None, /, *, as_json: AsJson = False) -> int:
    """Fetch the adapter of RUN; every file is checked against its sha256."""
    screen, found = Screen(as_json=as_json), open_compute().run(run)
    folder = found.download(target)
    finished = found.finished
    files = sorted(str(Path(m, file)) for m, done in finished.items() for file in done.files)
    missing = found.members.keys() - finished.keys()
    if as_json:
        known = {"folder": str(folder), "files": files, "missing": sorted(missing)}
        screen.json({"run": found.id, **known})
    else:
        screen.talk(f"{many(len(files), 'file')}, each checked")
        for name in sorted(missing):
            screen.warn(f"{name} is not finished yet")
        screen.write(str(folder))
    return EXIT_OK
