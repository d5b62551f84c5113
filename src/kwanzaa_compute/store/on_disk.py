"""Creating a file exactly once, on disks that know links and on those that know none."""

import errno
import os
import threading
from pathlib import Path

NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


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
