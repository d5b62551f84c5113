"""moto's S3, STS, IAM and CloudWatch logs as a server of its own: a process that ends with ours.

`python -m kwanzaa_compute_sagemaker.simulated.moto` serves on a free port of 127.0.0.1, writes the
port to its standard output, and ends when its standard input is closed, however that happens.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from typing import Self

from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.testing.loopback.child import end_child, piped

KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
NEEDED = ("moto", "flask", "flask_cors", "boto3")


class MotoServer:
    """One server for as long as it is entered. `url` is where it listens."""

    def __enter__(self) -> Self:
        """Raises `UsageError` where moto is not installed, or does not start."""
        if missing := [name for name in NEEDED if find_spec(name) is None]:
            raise UsageError(
                f"the simulated SageMaker needs {missing[0]}, which is not installed",
                mend='pip install "kwanzaa-compute-sagemaker[simulator]"',
            )
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in KEPT if name in os.environ},
            start_new_session=True,  # Ctrl-C is for us: machines still write to their store
        )
        port = piped(self._process.stdout).readline().strip()
        if not port.isdigit():
            self.__exit__()
            raise UsageError("moto does not start", mend="pip install --upgrade 'moto[s3]'")
        self.url = f"http://127.0.0.1:{int(port)}"
        return self

    def __exit__(self, *_: object) -> None:
        end_child(self._process)


def serve() -> None:
    """Serves until standard input is closed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve()
