"""One command line from its words to its exit code: every error ends here, in one place."""

import os
import sqlite3
import sys
from collections.abc import Sequence
from errno import EACCES, EDQUOT, EEXIST, EIO, EISDIR, ENOSPC, ENOTDIR, EPERM, EROFS

from kwanzaa_compute.config.redaction import redacted
from kwanzaa_compute.errors import EXIT_INTERRUPTED, EXIT_OK, KwanzaaError, UsageError

EXIT_BUG = 1
EXIT_UNUSABLE = UsageError.exit_code
_DISK = frozenset({ENOSPC, EDQUOT, EROFS, EACCES, EPERM, ENOTDIR, EISDIR, EEXIST, EIO})
"""What a disk or a folder answers that cannot be used: no fault of ours."""

EXIT_PIPE = 141
"""What the shell says of a program whose reader went away (128 + SIGPIPE)."""


def run_command(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code; nothing but SystemExit comes through."""
    words = list(sys.argv[1:] if argv is None else argv)
    ours = words[: words.index("--")] if "--" in words else words
    debug, as_json = "--debug" in ours, "--json" in ours
    if debug:
        words.remove("--debug")
    _write_whatever_comes()
    try:
        return _dispatch(words)
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was started\n")
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 -- the last one to hear of it
        if debug:
            import traceback

            sys.stderr.write(redacted(traceback.format_exc(), os.environ))
        return _report(error, as_json=as_json)


def _dispatch(words: list[str]) -> int:
    from cyclopts import CycloptsError

    from kwanzaa_compute.cli.app import COMMANDS, build_app
    from kwanzaa_compute.cli.screen import is_fancy

    names = {name for name, *_ in COMMANDS}
    chosen = words[0] if words and words[0] in names else None
    app = build_app(fancy=is_fancy(sys.stdout), chosen=chosen)
    try:
        result = app(
            words or ["--help"],
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        mend = f"kwanzaa {chosen} --help" if chosen else "kwanzaa --help"
        raise UsageError(str(error), mend=mend) from error
    return result if isinstance(result, int) else EXIT_OK


def _report(error: Exception, *, as_json: bool) -> int:
    """Says what happened and what mends it; returns the exit code that says so too."""
    from kwanzaa_compute.cli.screen import Screen

    if isinstance(error, KwanzaaError):
        message, mend, code = error.message, error.mend, error.exit_code
    elif isinstance(error, sqlite3.Error):
        message = f"the ledger in $KWANZAA_HOME cannot be used: {error}"
        mend, code = (
            "kwanzaa doctor says why; no run is lost: each lies in its store",
            EXIT_UNUSABLE,
        )
    elif isinstance(error, OSError) and error.errno in _DISK:
        message = f"{error.filename or 'a file here'}: {error.strerror}"
        mend = "free some space or choose another folder, then go on: kwanzaa runs, kwanzaa resume"
        code = EXIT_UNUSABLE
    else:
        message = f"a fault of kwanzaa itself: {type(error).__name__}: {error}"
        mend, code = "run it again with --debug and report what it says; kwanzaa runs", EXIT_BUG
    screen = Screen(as_json=as_json)
    if as_json:
        kind = type(error).__name__
        screen.json({"error": {"kind": kind, "message": message, "mend": mend, "exit": code}})
    screen.talk(f"error: {message}" + (f"\n  -> {mend}" if mend else ""), "red")
    return code


def _write_whatever_comes() -> None:
    """A terminal that cannot show a character shows a question mark; it never stops a run."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")
