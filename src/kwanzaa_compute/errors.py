"""Every error this library raises, grouped by what the caller does next.

    KwanzaaError
    +-- UsageError                  fix the command, the config or the data
    |   +-- ConfigError             ... at a named line of a named file
    |       +-- DataError           ... or of a data file
    +-- NothingFitsError            loosen a requirement, or wait for capacity
    +-- BudgetError                 raise the cap, or shorten the run
    +-- RunError                    read the run's log; the run itself failed
    |   +-- CheckpointError         every checkpoint is damaged: decide by hand
    +-- LeaseLostError              another watcher has the run: do nothing
    +-- StoreError                  storage answered with an error: try again, nothing is lost
    |   +-- StoreMissingError       ... because there is no such object
    |   +-- StoreExistsError        ... because somebody else wrote it first
    |   +-- StoreDeniedError        ... because the credential may not: mend it, or the clock
    +-- ProviderError               what a provider's own error means to us
    |   +-- CredentialsError        create or mend the named credential
    |   +-- CapacityError           try the next offer
    |   +-- QuotaError              stop using this provider for now (quota, balance)
    |   +-- TransientError          back off and try again
    |   +-- InvalidRequestError     a bug of ours or a bad config: never retried
    +-- MayBeBillingError           look at the provider's console *now*

Each class carries the exit code that the command line returns for it. A message says what
happened, to what, and what mends it.
"""

from pathlib import Path

EXIT_OK = 0
EXIT_INTERRUPTED = 130


class KwanzaaError(Exception):
    """The root: catch it to catch everything that this library raises on purpose."""

    exit_code = 1
    usual_mend = "kwanzaa runs shows what goes on; kwanzaa doctor looks for what is wrong"
    """What mends such an error where nothing more is known of it."""

    def __init__(self, message: str, *, mend: str = "") -> None:
        """`message` says what happened to what; `mend` is what to do or the command to run."""
        super().__init__(message)
        self.message = message
        self.mend = mend or self.usual_mend

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.mend}"


class UsageError(KwanzaaError):
    """The command, the config or the data is wrong; nothing was started."""

    exit_code = 2
    usual_mend = "kwanzaa --help lists the commands, kwanzaa COMMAND --help their options"


class ConfigError(UsageError):
    """A config file cannot be used, at a named place."""

    usual_mend = "mend that line; `kwanzaa schema` prints every key with its meaning"

    def __init__(
        self, message: str, *, file: Path | str = "", line: int | None = None, mend: str = ""
    ) -> None:
        place = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(f"{place}{message}", mend=mend)
        self.file = str(file)
        self.line = line


class DataError(ConfigError):
    """A data file cannot be trained on, at a named line."""

    usual_mend = "mend that line: one JSON object a line; kwanzaa validate CONFIG reads them all"


class NothingFitsError(KwanzaaError):
    """No offer satisfies the requirements, or none of those that do has capacity."""

    exit_code = 4
    usual_mend = "kwanzaa plan CONFIG --explain says why"


class BudgetError(KwanzaaError):
    """The cap forbids starting, or has been reached."""

    exit_code = 5
    usual_mend = "raise the cap with --max-usd, or shorten the run"


class RunError(KwanzaaError):
    """The run ended without an adapter."""

    exit_code = 1
    usual_mend = "kwanzaa logs RUN shows what its machines printed"


class CheckpointError(RunError):
    """Checkpoints exist and none of them can be trusted; starting over would hide that."""

    usual_mend = "choose one by hand: kwanzaa resume RUN --from checkpoint-STEP"


class LeaseLostError(KwanzaaError):
    """Another watcher holds this run's lease; this one must change nothing."""

    exit_code = 7
    usual_mend = "kwanzaa monitor RUN shows what the other watcher does"


class StoreError(KwanzaaError):
    """The object store could not do what was asked; retrying is safe."""

    exit_code = 7
    usual_mend = "nothing is lost: try again; kwanzaa validate CONFIG looks at the store"


class StoreMissingError(StoreError):
    """There is no object of that name in the store."""


class StoreExistsError(StoreError):
    """An object of that name exists already, and was to be created."""


class StoreDeniedError(StoreError):
    """The object store does not let this credential in, or not to what was asked for."""

    exit_code = 3
    usual_mend = (
        "see that the key is right and may use the folder, that it has not run out, and that this"
        " machine's clock is right"
    )


class ProviderError(KwanzaaError):
    """What a provider's error means to the caller; the original is `__cause__`.

    `nothing_was_created` is True only when the provider has *proven* that a launch created no
    machine. Every other failed launch is ambiguous: the machine may exist and bill.
    """

    exit_code = 7
    usual_mend = "kwanzaa doctor looks for what is wrong; then try again"

    def __init__(
        self,
        message: str,
        *,
        mend: str = "",
        nothing_was_created: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, mend=mend)
        self.nothing_was_created = nothing_was_created
        self.retry_after_s = retry_after_s


class CredentialsError(ProviderError):
    """The provider refused our credentials, or there are none."""

    exit_code = 3
    usual_mend = "kwanzaa doctor says which credentials are set"


class CapacityError(ProviderError):
    """This offer is sold out; another one may not be."""

    exit_code = 4
    usual_mend = "wait, or let more in: another --gpu, --provider or --spot"


class QuotaError(ProviderError):
    """A quota or a balance forbids any further machine of this provider."""

    exit_code = 5
    usual_mend = "look at quota and balance in the provider's console"


class TransientError(ProviderError):
    """Time-out, rate limit or server error: the same call may succeed later."""

    usual_mend = "try again in a minute"


class InvalidRequestError(ProviderError):
    """The provider says that the request itself is wrong; repeating it is useless."""

    exit_code = 2
    usual_mend = "run it with --debug and report what it says"


class MayBeBillingError(KwanzaaError):
    """A machine could not be confirmed absent; it may still cost money."""

    exit_code = 6
    usual_mend = "look at the provider's console now; then kwanzaa watch"
