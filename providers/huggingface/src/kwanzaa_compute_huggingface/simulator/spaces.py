"""Spaces of the simulated Hub: built from their Dockerfile, started, looked at, paused."""

import posixpath
import re
import socket
import threading
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.testing.loopback.cloud import Command
from kwanzaa_compute.testing.loopback.wire import Reply, Request
from kwanzaa_compute.testing.simcloud import SimMachine, State
from kwanzaa_compute_huggingface.simulator.answers import HubError, Route, fields_of
from kwanzaa_compute_huggingface.simulator.dockerfile import BuildError, Image, build
from kwanzaa_compute_huggingface.simulator.flavours import SPACES
from kwanzaa_compute_huggingface.simulator.repositories import Repository
from kwanzaa_compute_huggingface.simulator.stand_ins import stand_ins

if TYPE_CHECKING:
    from kwanzaa_compute_huggingface.simulator.hub import HubSimulator

FREE = "cpu-basic"
_SPACE = r"/api/spaces/([^/]+/[^/]+)"
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ANSWERS_WITHIN_S = 30.0
"""How long a container may take until its page answers; the Hub's own limit is half an hour."""


@dataclass(slots=True)
class Space:
    """What is asked of a Space, and what became of it."""

    repository: Repository
    hardware: str
    sleep_s: int | None
    secrets: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    machine: str = ""
    paused: bool = False
    asleep: bool = False
    healthy: bool = False
    error: str = ""
    built: bool | None = None
    """None: there is nothing to build yet."""
    build_log: list[str] = field(default_factory=list)


class SimulatedSpaces:
    """The routes of Spaces beside those of their repositories."""

    def __init__(self, hub: "HubSimulator") -> None:
        """Of this Hub."""
        self._hub = hub
        self.all: dict[str, Space] = {}
        self.routes: list[Route] = [
            ("GET", r"/api/spaces/hardware", lambda _request: Reply(body=list(SPACES))),
            ("GET", r"/api/spaces", self._list),
            ("GET", _SPACE + r"/runtime", self._runtime),
            ("POST", _SPACE + r"/secrets", self._secret),
            ("POST", _SPACE + r"/variables", self._variable),
            ("GET", _SPACE + r"/secrets", self._names),
            ("POST", _SPACE + r"/hardware", self._request_hardware),
            ("POST", _SPACE + r"/sleeptime", self._sleep_time),
            ("POST", _SPACE + r"/pause", self._pause),
            ("POST", _SPACE + r"/restart", self._restart),
            ("GET", _SPACE + r"/logs/(build|run)", self._logs),
        ]

    # -- what happens to a Space --------------------------------------------------------------

    def check(self, asked: dict[str, Any]) -> None:
        """Refuses a Space that the Hub would not create."""
        if asked.get("sdk") not in {"docker", "gradio", "static"}:
            raise HubError(400, "Invalid input: sdk")
        if asked.get("hardware", FREE) not in {flavour["name"] for flavour in SPACES}:
            raise HubError(400, "Invalid input: hardware")
        for pair in [*(asked.get("secrets") or []), *(asked.get("variables") or [])]:
            if not _VARIABLE.fullmatch(pair["key"]) or not isinstance(pair["value"], str):
                raise HubError(400, f"Invalid input: {pair['key']}")
        self._hub.must_have_credit()

    def changed(self, repository: Repository, exists: bool) -> None:  # noqa: FBT001 -- one caller
        """A commit builds the Space and starts it; a delete ends it."""
        if repository.kind != "space":
            return
        if not exists:
            gone = self.all.pop(repository.name, None)
            if gone is not None:
                self._stop(gone)
            return
        self._start(self._space(repository))

    def _space(self, repository: Repository) -> Space:
        asked = repository.settings
        if repository.name not in self.all:
            self.all[repository.name] = Space(
                repository,
                asked.get("hardware") or FREE,
                asked.get("sleepTimeSeconds"),
                {pair["key"]: pair["value"] for pair in asked.get("secrets") or []},
                {pair["key"]: pair["value"] for pair in asked.get("variables") or []},
            )
        return self.all[repository.name]

    def _start(self, space: Space) -> None:
        self._stop(space)
        space.paused = space.asleep = space.healthy = False
        space.error, space.machine = "", ""
        files = {path: file.content for path, file in space.repository.files.items()}
        if "Dockerfile" not in files:
            space.built = None
            return
        space.build_log = ["===== Build Queued ====="]
        try:
            image = build(files["Dockerfile"].decode(), files)
        except BuildError as error:
            space.built, space.error = False, "Job failed with exit code: 1"
            space.build_log.append(f"ERROR: {error}")
            return
        space.built = True
        space.build_log += image.log
        if space.hardware == FREE:
            space.healthy = True  # costs nothing, so the cloud has no machine for it
            return
        space.machine = self._hub.cloud.create(
            space.repository.name.partition("/")[2],
            (space.hardware, ""),
            self._command(space, image),
        )
        self._hub.cloud.spaces[space.repository.name] = space.machine

    def _command(self, space: Space, image: Image) -> Command:
        """The container as a process: its files and its folder lie below the machine's home."""
        port = _free_port()
        more = stand_ins(image.base, self._hub.endpoint)
        env = {
            **image.env,
            **space.variables,
            **space.secrets,
            "SPACE_ID": space.repository.name,
            "SPACE_AUTHOR_NAME": space.repository.name.partition("/")[0],
            # A container has a network of its own, a process has not: so its port is another.
            "HOST": "127.0.0.1",
            "PORT": str(port),
        }
        folder = image.folder.as_posix()
        known = {path.as_posix() for path in image.files}
        words = [posixpath.relpath(w, folder) if w in known else w for w in image.argv]
        enter = 'test -d bin && chmod 700 bin/*; mkdir -p "$0" && cd "$0" && exec "$@"'
        placed = {path.as_posix().lstrip("/"): data for path, data in image.files.items()}
        return Command(
            ["sh", "-c", enter, f".{folder}", *words],
            env,
            files={**placed, **more},
            extra={"space": space.repository.name, "port": port},
        )

    def begun(self, machine: SimMachine) -> None:
        """Its container runs: whether its page answers is looked at beside, and sleep is due."""
        extra = machine.command.extra if isinstance(machine.command, Command) else {}
        space = self.all.get(str(extra.get("space", "")))
        if space is None or space.machine != machine.id:
            return
        port = int(str(extra["port"]))
        threading.Thread(target=self._watch, args=(space, machine, port), daemon=True).start()
        if space.sleep_s:
            # It counts from the last request to its page, and nobody but the Hub ever asks.
            at = self._hub.cloud.clock.at + space.sleep_s
            self._hub.cloud.clock.call_at(at, lambda: self._fall_asleep(space, machine))

    def _fall_asleep(self, space: Space, machine: SimMachine) -> None:
        if space.machine == machine.id and machine.works:
            space.asleep = True
            self._hub.cloud.terminate(machine.id)

    def _watch(self, space: Space, machine: SimMachine, port: int) -> None:
        clock = self._hub.cloud.clock
        until = clock.elapsed_s + _ANSWERS_WITHIN_S
        while machine.works and clock.elapsed_s < until:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2):
                space.healthy = True
                return
            clock.sleep(0.05)
        if machine.works:
            space.error = "Launch timed out, workload was not healthy after 30 min"
            self._hub.cloud.terminate(machine.id)

    def _stop(self, space: Space) -> None:
        if space.machine:
            self._hub.cloud.terminate(space.machine)

    # -- what is asked ------------------------------------------------------------------------

    def _found(self, request: Request, name: str, *, change: bool = False) -> Space:
        repository = self._hub.repositories.find(request, "space", name)
        if change:
            self._hub.must_be_allowed(request, name.partition("/")[0])
        return self._space(repository)

    def _list(self, request: Request) -> Reply:
        author = request.query.get("author", [""])[0]
        search = request.query.get("search", [""])[0]
        visible = {machine.id for machine in self._hub.cloud.listing()}
        listed = []
        for (kind, name), repository in list(self._hub.repositories.all.items()):
            if kind != "space" or not self._hub.may_see(request, name):
                continue
            space = self._space(repository)
            machine = self._hub.cloud.sim.machines.get(space.machine)
            if machine is not None and machine.bills and machine.id not in visible:
                continue  # the list lags behind
            if name.startswith(author + "/") and search in name:
                shown = self._hub.repositories.shown(repository)
                listed.append({**shown, "sdk": "docker", "runtime": self._shown(space)})
        return Reply(body=listed)

    def _runtime(self, request: Request, name: str) -> Reply:
        return Reply(body=self._shown(self._found(request, name)))

    def _secret(self, request: Request, name: str) -> Reply:
        space = self._found(request, name, change=True)
        pair = fields_of(request, {"key": str, "value": str}, {"description"})
        space.secrets[str(pair["key"])] = str(pair["value"])
        return Reply(body={})

    def _variable(self, request: Request, name: str) -> Reply:
        space = self._found(request, name, change=True)
        pair = fields_of(request, {"key": str, "value": str}, {"description"})
        space.variables[str(pair["key"])] = str(pair["value"])
        return Reply(body={})

    def _names(self, request: Request, name: str) -> Reply:
        return Reply(body={key: {"key": key} for key in self._found(request, name).secrets})

    def _request_hardware(self, request: Request, name: str) -> Reply:
        space = self._found(request, name, change=True)
        asked: dict[str, Any] = fields_of(request, {"flavor": str}, {"sleepTimeSeconds"})
        if asked["flavor"] not in {flavour["name"] for flavour in SPACES}:
            raise HubError(400, "Invalid input: flavor")
        if asked["flavor"] != FREE:
            self._hub.must_have_credit()
        space.hardware = asked["flavor"]
        space.sleep_s = asked.get("sleepTimeSeconds", space.sleep_s)
        if not space.paused:
            self._start(space)
        return Reply(body=self._shown(space))

    def _sleep_time(self, request: Request, name: str) -> Reply:
        space = self._found(request, name, change=True)
        space.sleep_s = int(str(fields_of(request, {"seconds": int}, set())["seconds"]))
        return Reply(body=self._shown(space))

    def _pause(self, request: Request, name: str) -> Reply:
        space = self._found(request, name, change=True)
        space.paused = True
        self._stop(space)
        return Reply(body=self._shown(space))

    def _restart(self, request: Request, name: str) -> Reply:
        space = self._found(request, name, change=True)
        self._hub.must_have_credit()
        self._start(space)
        return Reply(body=self._shown(space))

    def _logs(self, request: Request, name: str, which: str) -> Reply:
        space = self._found(request, name, change=True)
        if which == "build":
            return Reply(body=self._hub.stream(None, space.build_log))
        machine = self._hub.cloud.sim.machines.get(space.machine)
        return Reply(body=self._hub.stream(machine, ["===== Application Startup ====="]))

    def _shown(self, space: Space) -> dict[str, Any]:
        stage, message = self._stage(space)
        runs = stage in {"RUNNING", "APP_STARTING"}
        shown: dict[str, Any] = {
            "stage": stage,
            "hardware": {"current": space.hardware if runs else None, "requested": space.hardware},
            "gcTimeout": space.sleep_s,
            "devMode": False,
        }
        return {**shown, "errorMessage": message} if message else shown

    def _stage(self, space: Space) -> tuple[str, str]:
        machine = self._hub.cloud.sim.machines.get(space.machine)
        if space.paused or space.asleep:
            return ("PAUSED" if space.paused else "SLEEPING"), ""
        if space.built is None:
            return "NO_APP_FILE", ""
        if not space.built:
            return "BUILD_ERROR", space.error
        if space.error:
            return "RUNTIME_ERROR", space.error
        if machine is None or machine.bills:
            starting = machine is not None and machine.state is State.STARTING
            running = "RUNNING" if space.healthy else "APP_STARTING"
            return ("BUILDING" if starting else running), ""
        if self._hub.cloud.ends.get(machine.id) == "exited":
            code = machine.exit_code or 0
            why = "Reason: application does not seem to be initialized"
            return "RUNTIME_ERROR", f"Exit code: {128 - code if code < 0 else code}. {why}"
        return "RUNTIME_ERROR", "Workload evicted"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
