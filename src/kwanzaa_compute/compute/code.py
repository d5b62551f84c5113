"""The code that a rented machine runs: this very library and its trainer, as one archive.

It is made from what is installed here, so that both sides are always of one version, and sent
through the store like everything else. Same files, same bytes.
"""

import hashlib
import io
import zipfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from kwanzaa_compute import __version__
from kwanzaa_compute.errors import StoreExistsError, UsageError
from kwanzaa_compute.store import Store
from kwanzaa_compute.store.folder import CODE

PACKAGES = ("kwanzaa_compute", "kwanzaa_trainer")
_LEFT_OUT = ("kwanzaa_compute/testing/", "kwanzaa_compute/cli/", "kwanzaa_compute/report/")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def upload_code(store: Store) -> None:
    """Puts the archive into a run's folder, named by its sha256. Once there it is left alone."""
    archive = code_archive()
    sha256 = hashlib.sha256(archive).hexdigest()
    try:
        store.create(f"{CODE}/{sha256}.zip", archive)
    except StoreExistsError:
        return


@cache
def code_archive() -> bytes:
    """Both packages as a zip file. Raises `UsageError` where the trainer is not installed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for package in PACKAGES:
            root = _folder(package)
            for path in sorted(root.rglob("*")):
                name = f"{package}/{path.relative_to(root).as_posix()}"
                if path.is_file() and "__pycache__" not in name and not name.startswith(_LEFT_OUT):
                    info = zipfile.ZipInfo(name, _EPOCH)
                    archive.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            f"{package.replace('_', '-')} is not installed, so it cannot be sent to a machine",
            mend=f'pip install "kwanzaa-trainer=={__version__}"',
        )
    return Path(next(iter(spec.submodule_search_locations)))
