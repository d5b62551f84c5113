"""Files of a store on this machine's own disk: read at once, and created exactly once."""

import errno
import os
import threading
from pathlib import Path

NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def read_file(path: str) -> bytes:
    """A file's whole content; `FileNotFoundError` where there is none, or a folder.

    A watcher reads three small files a run: a thread's round through obstore costs more than they.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 -- a Path costs as much as the file
            return file.readall()
    except IsADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, "is a folder", path) from error


def create_file(path: Path, data: bytes) -> None:
    """Writes a file whole, or not at all where there is one: `FileExistsError`.

    By a link, which one of several writers gets. A disk that knows no links (Google Drive, FAT)
    has the file moved there instead: just as whole, and safe for one writer at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # obstore gives what it writes such names as well, and no list of its shows them.
    partial = path.with_name(f"{path.name}#{os.getpid()}{threading.get_ident()}")
    try:
        partial.write_bytes(data)
        try:
            os.link(partial, path)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if path.exists():
                raise FileExistsError(errno.EEXIST, "exists", str(path)) from None
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
