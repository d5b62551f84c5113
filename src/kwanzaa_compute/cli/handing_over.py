"""`train` where only a person starts the machine: a notebook, and what to do with it."""

from pathlib import Path

from kwanzaa_compute.cli.screen import Screen
from kwanzaa_compute.compute import Compute, Options
from kwanzaa_compute.compute.handing_over import HandedOver, hand_over
from kwanzaa_compute.drivers.contract import ProviderInfo
from kwanzaa_compute.errors import EXIT_OK


def write_the_notebook(  # noqa: PLR0917 -- what train was told
    screen: Screen,
    compute: Compute,
    config: Path,
    options: Options,
    info: ProviderInfo,
    github: str | None,
) -> int:
    """Writes the notebook into this folder and says what to do next. Nothing is rented."""
    made = hand_over(compute, config, options, info, publish_at=github or "")
    path = Path(f"{made.run_id}.ipynb").absolute()
    path.write_text(made.notebook.text, encoding="utf-8")
    if screen.as_json:
        screen.json(
            {
                "event": "notebook",
                "run": made.run_id,
                "notebook": str(path),
                "gpu": made.notebook.gpu,
                "link": made.notebook.link or None,
                "store_url": made.store_url or None,
                "exit": EXIT_OK,
            }
        )
    else:
        screen.write(str(path))
    _say_what_next(screen, info, made)
    return EXIT_OK


def _say_what_next(screen: Screen, info: ProviderInfo, made: HandedOver) -> None:
    notebook = made.notebook
    where = f"{made.store_url}/adapter" if made.store_url else f"Drive: kwanzaa/{made.run_id}"
    upload = f"upload it at {info.console_url} (File > Upload notebook)"
    screen.talk(f"1. {f'publish it, then open {notebook.link}' if notebook.link else upload}")
    screen.talk(f"2. choose a {notebook.gpu}: Runtime > Change runtime type")
    screen.talk("3. Runtime > Run all; after a disconnect the same again")
    screen.talk(f"4. the adapter will be in {where}")
    screen.talk("nothing was rented: your subscription pays, and nobody here watches it")
