"""The shell's face. Data goes to stdout, talk to stderr; each command can speak JSON."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (default: this process's own); returns the exit code."""
    from kwanzaa_compute.cli.entry import run_command

    return run_command(argv)
