"""`python -m kwanzaa_trainer run <store-url>`: what every machine is told to do."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.errors import KwanzaaError
from kwanzaa_compute.store.folder import RunFolder
from kwanzaa_compute.store.objects import Store, open_store
from kwanzaa_trainer.allocator import ask_for_growing
from kwanzaa_trainer.attempt import run_attempt
from kwanzaa_trainer.launching import launch, line_up, see_one_gpu
from kwanzaa_trainer.settings import Settings
from kwanzaa_trainer.stopping import Stop

USAGE = """\
usage: python -m kwanzaa_trainer run <store-url>
       python -m kwanzaa_trainer run <store-url> <store-url>...   several at once on one base
"""
EXIT_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one attempt; returns its exit code (0 done, 75 stopped as asked, 1 failed, 2 usage)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    if len(words) < 2 or words[0] != "run":  # noqa: PLR2004 -- a verb and a URL
        sys.stderr.write(USAGE)
        return EXIT_USAGE
    # Before torch is imported: cuBLAS reads it once, and is not repeatable without it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    ask_for_growing()
    see_one_gpu(os.environ)
    try:
        stores = [open_store(url) for url in words[1:]]
        os.environ.update(_numbered(os.environ, stores[0]))
        line = line_up()
        if not line.is_alone and len(stores) == 1 and not RunFolder(stores[0]).member_names():
            return launch(line, words[1])
        settings = Settings.from_environment(words[1])
    except KwanzaaError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    if len(stores) == 1:
        return run_attempt(stores[0], settings, Clock(), _stop_on_signals())
    from kwanzaa_trainer.abreast import train_abreast

    return train_abreast(stores, settings, Clock(), _stop_on_signals())


def _numbered(environ: Mapping[str, str], store: Store) -> Mapping[str, str]:
    """The environment with a number for `KWANZAA_ATTEMPT=next`: where nobody counts, we do."""
    if environ.get("KWANZAA_ATTEMPT") != "next":
        return environ
    return {**environ, "KWANZAA_ATTEMPT": str(max(RunFolder(store).attempts(), default=0) + 1)}


def _stop_on_signals() -> Stop:
    """A stop that SIGTERM and SIGINT ask for; the loop answers at its next whole step."""
    stop = Stop()

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.ask(f"signal {signal.Signals(number).name}")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return stop


if __name__ == "__main__":
    sys.exit(main())
