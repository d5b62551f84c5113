"""What every test gets: the tools it asks for, real inputs where there are any, and its turn."""

import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from filelock import FileLock

# A test that asks the Hub for anything would be slow here and red elsewhere.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_works() -> None:
    """Ctrl-C reaches what tests start, also where a shell has put us into the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test go to the front of each worker's share.

    `--dist worksteal` hands every worker one stretch of the list. A slow file at the very end
    would leave the other workers idle; two slow files in one stretch would run one by one.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow_files = sorted({item.path for item in items if item.get_closest_marker("slow")})
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for index, path in enumerate(slow_files):
        shares[index % workers] += [item for item in items if item.path == path]
    fast = [item for item in items if item.path not in set(slow_files)]
    for index, share in enumerate(shares):
        room = max(0, len(items) // workers - len(share))
        shares[index] = share + fast[:room]
        del fast[:room]
    items[:] = [item for share in shares for item in share] + fast


def _missing(what: str, mend: str) -> NoReturn:
    """Skips aloud; where `KWANZAA_CI` is set nothing may be missing, so there it fails."""
    message = f"{what} is not here: {mend}"
    if os.environ.get("KWANZAA_CI"):
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """`require_tool("node")` is the tool's full path; the test is skipped aloud without it.

    A tool that is asked for here must stand in the list at the top of `.ci/run`.
    """

    def require(name: str) -> str:
        return shutil.which(name) or _missing(f"the tool {name!r}", f"install {name}")

    return require


@pytest.fixture(scope="session")
def not_here() -> Callable[[str, str], NoReturn]:
    """`not_here(what, mend)` skips aloud, and fails in CI: for what is no tool on the PATH."""
    return _missing


@pytest.fixture(scope="session")
def real_inputs() -> Path:
    """The folder with the first user's own training.yaml and data (`KWANZAA_REAL`)."""
    return _folder("KWANZAA_REAL")


@pytest.fixture(scope="session")
def api_descriptions() -> Path:
    """The folder with the providers' published API descriptions (`KWANZAA_SPECS`)."""
    return _folder("KWANZAA_SPECS")


@pytest.fixture(scope="session")
def preemption_traces() -> Path:
    """The folder with recorded preemption traces (`KWANZAA_TRACES`)."""
    return _folder("KWANZAA_TRACES")


Witness = Callable[..., Path]
"""`witness("name==1.0")` is the Python of an environment in which that alone is installed."""


@pytest.fixture(scope="session")
def witness() -> Witness:
    """Clients of others, at pinned versions, each in an environment of its own.

    They say whether a simulator is what they know, and must not meet our own packages. The
    environments lie in `.venv/witnesses` and are made once. `lock` names all that is installed,
    where a client asks for much that it never uses here.
    """

    def installed(*requirements: str, lock: Path | None = None) -> Path:
        name = "-".join(sorted(requirements)).replace("==", "-").replace("[", "-").replace("]", "")
        folder = Path(__file__).parent / ".venv" / "witnesses" / name
        python = folder / "bin" / "python"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (folder / "made").exists():
                _install(folder, requirements if lock is None else ("--no-deps", f"-r{lock}"))
                (folder / "made").touch()
        return python

    return installed


def _install(folder: Path, requirements: tuple[str, ...]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    words = ["install", "--quiet", "--disable-pip-version-check", *requirements]
    made = subprocess.run([*pip, *words], capture_output=True, text=True, check=False)
    if made.returncode:
        _missing(" ".join(requirements), f"pip cannot have it: {made.stderr.strip()[-300:]}")


PRISM = "@stoplight/prism-cli@5.16.0"
Prism = Callable[[Path, str], AbstractContextManager[str]]
"""`with prism(description, upstream) as address`: it stands before `upstream`."""


@pytest.fixture(scope="session")
def prism(tmp_path_factory: pytest.TempPathFactory) -> Prism:
    """A second opinion on a simulator, where Node is: a proxy that minds an API's description.

    What is not as described, in a request or in its answer, it turns into an error of its own.
    """
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        _missing("node with npm", "install Node.js; until then openapi-core's opinion has to do")
    program = _prism_program()

    @contextmanager
    def before(description: Path, upstream: str) -> Iterator[str]:
        log = tmp_path_factory.mktemp("prism") / "prism.log"
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            port = probe.getsockname()[1]
        words = ["proxy", str(description), upstream, "--errors", "--port", str(port)]
        with log.open("w") as file:
            child = subprocess.Popen(
                [node, str(program), *words, "--host", "127.0.0.1"],
                stdout=file,
                stderr=file,
                env={**os.environ, "SCARF_ANALYTICS": "false"},
            )
        try:
            _wait_for(port, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            child.kill()
            child.wait()

    return before


def _prism_program() -> Path:
    """Installed once, beside the other witnesses."""
    folder = Path(__file__).parent / ".venv" / "witnesses" / PRISM.rpartition("/")[2]
    folder = folder.with_name(folder.name.replace("@", "-"))
    program = folder / "node_modules" / "@stoplight" / "prism-cli" / "dist" / "index.js"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not program.exists():
            words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", PRISM]
            made = subprocess.run(
                [*words, "--prefix", str(folder)],
                capture_output=True,
                text=True,
                env={**os.environ, "SCARF_ANALYTICS": "false"},
                check=False,
            )
            if made.returncode:
                _missing(PRISM, f"npm cannot have it: {made.stderr[-200:]}")
    return program


def _wait_for(port: int, log: Path) -> None:
    from kwanzaa_compute.clock import Clock

    clock = Clock()
    last = clock.monotonic() + 60
    while clock.monotonic() < last:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        clock.sleep(0.1)
    pytest.fail(f"prism does not start: {log.read_text()[-500:]}")


def _folder(variable: str) -> Path:
    """These inputs are not ours to publish, so even in CI they may be absent, but never wrong."""
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: this test needs inputs that are not in the repository")
    if not Path(value).is_dir():
        pytest.fail(f"{variable} names {value}, which is no folder", pytrace=False)
    return Path(value)


# -- canaries: each credential has a unique value here, and no test may leave one anywhere --------

RENTING = (
    "RUNPOD_API_KEY",
    "LAMBDA_API_KEY",
    "AZURE_CLIENT_SECRET",
    "NVIDIA_API_KEY",
    "WANDB_API_KEY",
)
"""Credentials that no machine may get, whatever it trains on."""
STORING = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "HF_TOKEN",
    "KWANZAA_WANDB_API_KEY",
)
CANARIES = {
    name: f"canary0{hashlib.sha256(name.encode()).hexdigest()[:24]}" for name in RENTING + STORING
}
_ANY = re.compile("|".join(CANARIES.values()))
_ANY_BYTES = re.compile("|".join(CANARIES.values()).encode())
_LARGEST = 64 << 20
_escaped: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """Sets the canaries, unless real credentials are needed: for tests on real accounts."""
    if "live" in str(config.option.markexpr).replace("not live", ""):
        return
    os.environ.update(CANARIES)
    sys.addaudithook(_look_at_children)


def _look_at_children(event: str, args: tuple[Any, ...]) -> None:
    """No argv holds a credential; no machine's environment one that rents."""
    if event not in {"subprocess.Popen", "os.posix_spawn", "os.exec"}:
        return
    argv = [os.fsdecode(word) for word in args[1] if isinstance(word, str | bytes | os.PathLike)]
    if any(map(_ANY.search, argv)):
        _escaped.append(f"argv of {argv[0]}")
    if any("local_machine" in word for word in argv):
        _escaped.extend(_of_a_machine(args[2] if event == "os.posix_spawn" else args[3]))


def _of_a_machine(environment: Mapping[Any, Any] | None) -> Iterator[str]:
    values = {os.fsdecode(value) for value in (environment or os.environ).values()}
    for name in RENTING:
        if any(CANARIES[name] in value for value in values):
            yield f"{name} in the environment of a machine"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Searches what a test printed and logged, and what its failure shows."""
    report = yield
    told = [report.longreprtext, *(text for _title, text in report.sections)]
    if any(map(_ANY.search, told)):
        _escaped.append(f"the output of {item.nodeid}")
    return report  # type: ignore[no-any-return]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Fails the test that let a canary escape; the last one answers for the whole session."""
    result = yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if folder is not None:
        _search(folder)
    if nextitem is None:
        _search(item.config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]  # noqa: SLF001 -- session fixtures wrote there
    escaped, _escaped[:] = list(_escaped), []
    assert not escaped, f"a credential escaped: {', '.join(escaped)}"  # noqa: S101 -- the verdict
    return result


def _search(folder: Path) -> None:
    for parent, _folders, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST:
                continue
            try:
                found = _ANY_BYTES.search(path.read_bytes())
            except OSError:  # a test took our right to read it, or it went away
                continue
            if found:
                _escaped.append(str(path))
