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
    done = found.done
    files = sorted(done.files) if done else []
    if as_json:
        screen.json({"run": found.id, "folder": str(folder), "files": files})
    else:
        screen.talk(f"{many(len(files), 'file')}, each checked")
        screen.write(str(folder))
    return EXIT_OK
