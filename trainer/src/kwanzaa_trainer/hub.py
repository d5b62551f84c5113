"""A base model from the Hugging Face Hub: downloaded with a heartbeat, and without any code."""

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from kwanzaa_compute.errors import ConfigError

WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""Weights as safetensors only: the other formats are pickles, which can run code."""

REFUSALS = ("RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError")


def fetch_from_hub(
    model_id: str,
    revision: str | None,
    *,
    moved: Callable[[], None],
    endpoint: str | None = None,
    cache: Path | None = None,
) -> Path:
    """Downloads a repository into the Hub's cache; returns its folder, named by the commit.

    `moved` is called as bytes arrive, never by two threads at once. Raises `ConfigError` where the
    Hub says that there is no such thing for us; a network that fails raises what it raises.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = snapshot_download(
            model_id,
            revision=revision,
            allow_patterns=list(WANTED),
            tqdm_class=_silent_bar(moved),
            endpoint=endpoint,
            cache_dir=cache,
        )
    except HFValidationError as error:
        raise ConfigError(
            f"{model_id!r} is neither a folder of this run nor a name on the Hub",
            mend="check model.base_model_id",
        ) from error
    except HfHubHTTPError as error:
        if type(error).__name__ not in REFUSALS:
            raise
        raise ConfigError(
            f"the Hub has no {model_id} (revision {revision or 'main'}) for us",
            mend="check model.base_model_id and model.revision; a gated model needs HF_TOKEN",
        ) from error
    return Path(folder)


def _silent_bar(moved: Callable[[], None]) -> type[Any]:
    """A progress bar that shows nothing and passes every movement on."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    lock = Lock()

    class SilentBar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **(options | {"disable": True}))  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            with lock:
                moved()
            return super().update(n)  # type: ignore[no-any-return]

    return SilentBar
