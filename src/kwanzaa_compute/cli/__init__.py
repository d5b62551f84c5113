"""The shell's face. Data goes to stdout, talk to stderr; each command can speak JSON."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (default: this process's own); returns the exit code."""
    import gc

    # Starting up makes a hundred thousand objects that all stay: looking through them for garbage
    # every seven hundred would take a seventh of the time of a short command.
    gc.set_threshold(50_000, 20, 100)
    from kwanzaa_compute.cli.entry import run_command

    return run_command(argv)
