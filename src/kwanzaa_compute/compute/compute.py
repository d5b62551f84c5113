"""`Compute`: the library's front door. Plan, train, and find your runs again."""

import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.compute.applying import Applied, apply_plan
from kwanzaa_compute.compute.buying import buyable
from kwanzaa_compute.compute.calibration import learn_speed
from kwanzaa_compute.compute.code import upload_code
from kwanzaa_compute.compute.entering import new_record
from kwanzaa_compute.compute.inputs import send
from kwanzaa_compute.compute.machines import (
    MachineChoice,
    MachineWish,
    choose_machine,
    enter_machine,
)
from kwanzaa_compute.compute.offers import ForSale, ask_providers, known_offers
from kwanzaa_compute.compute.ownership import adopt_owner, known_owner
from kwanzaa_compute.compute.planning import Options, Planned, plan_run
from kwanzaa_compute.compute.reach import shares_files
from kwanzaa_compute.compute.resuming import go_on_from
from kwanzaa_compute.compute.run import Run
from kwanzaa_compute.compute.sweep import Sweep, plan_sweep
from kwanzaa_compute.config import LoadedConfig
from kwanzaa_compute.drivers.contract import DriverContext
from kwanzaa_compute.drivers.plugins import Catalogue, build_driver, discover
from kwanzaa_compute.drivers.provider import Provider
from kwanzaa_compute.errors import UsageError
from kwanzaa_compute.market.candidates import Candidate
from kwanzaa_compute.runs.ledger import Ledger
from kwanzaa_compute.runs.records import Project, RunState
from kwanzaa_compute.runs.run_file import run_json
from kwanzaa_compute.secret import Secret
from kwanzaa_compute.store import Store, open_store
from kwanzaa_compute.store.folder import RUN
from kwanzaa_compute.store.objects import require_store_url

if TYPE_CHECKING:
    from kwanzaa_compute.compute.notifying import Notifier
    from kwanzaa_compute.runs.step import Step
    from kwanzaa_compute.runs.supervisor import Supervisor


class Compute:
    """One user's runs on this machine: the ledger, the providers and the store beneath them."""

    def __init__(
        self,
        *,
        home: Path | str | None = None,
        store: str | None = None,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        catalogue: Catalogue | None = None,
        endpoints: Mapping[str, str] | None = None,
    ) -> None:
        """Nothing is read or created before it is needed.

        `home` is where the ledger lies (default `$KWANZAA_HOME`, then `~/.kwanzaa`); `store` is
        the URL below which runs keep their folders (default: `$KWANZAA_STORE`, the config, then a
        folder in `home`); `environment` is where credentials are looked up; `endpoints` replaces
        addresses of providers, by name: those of simulators on loopback, say.
        """
        given = dict(os.environ if environment is None else environment)
        self.home = Path(home or given.get("KWANZAA_HOME") or Path.home() / ".kwanzaa").absolute()
        self.environment: Mapping[str, str] = {**given, "KWANZAA_HOME": str(self.home)}
        self.clock = clock or Clock()
        self._store = store or given.get("KWANZAA_STORE") or None
        self._catalogue = catalogue
        self._endpoints = endpoints or {}
        self._providers: dict[str, Provider] = {}

    def beside(self, clock: Clock) -> "Compute":
        """Another one over the same runs and providers, for a thread: its ledger is its own."""
        return Compute(
            home=self.home,
            store=self._store,
            environment=self.environment,
            clock=clock,
            catalogue=self._catalogue,
            endpoints=self._endpoints,
        )

    # -- parts --------------------------------------------------------------------------------

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger in `home`; made at first use."""
        return Ledger(self.home / "ledger.sqlite", self.clock)

    @cached_property
    def catalogue(self) -> Catalogue:
        """The providers that are installed, and the driver packages that are broken."""
        return self._catalogue or discover()

    @property
    def has_ledger(self) -> bool:
        """Whether there is a ledger in `home` already."""
        return (self.home / "ledger.sqlite").is_file()

    @property
    def is_simulated(self) -> bool:
        """Whether its providers are played on loopback, and end with this process."""
        return bool(self._endpoints)

    @cached_property
    def owner(self) -> str:
        """Eight letters that mark this user's machines; made once, kept in `home`."""
        return self.adopt_owner(self.known_owner() or secrets.token_hex(4))

    def known_owner(self) -> str:
        """The mark that is kept in `home`, or `$KWANZAA_OWNER`; "" where there is none yet."""
        return known_owner(self.home, self.environment)

    def adopt_owner(self, owner: str) -> str:
        """Keeps the mark in `home`; one that is there already stays. Returns the one that holds."""
        return adopt_owner(self.home, owner)

    def provider(self, name: str) -> Provider:
        """The provider of that name, its driver built at first use."""
        if name not in self._providers:
            info = self.catalogue.find(name)
            values = (self.environment.get(variable) for variable in info.environment)
            secrets = [Secret(value) for value in values if value]
            driver = build_driver(info, self.driver_context(name))
            self._providers[name] = Provider(info, driver, self.clock, secrets=secrets)
        return self._providers[name]

    def open_store(self, url: str) -> Store:
        """The store at a URL, with the credentials of `environment`."""
        return open_store(url, self.environment)

    def driver_context(self, name: str) -> DriverContext:
        """What the driver of that name is built from."""
        return DriverContext(self.environment, self.clock, self._endpoints.get(name))

    def supervisor(self) -> "Supervisor":
        """A watcher of its own; any number may be at work at once."""
        from kwanzaa_compute.runs.supervisor import Supervisor

        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        return Supervisor(
            self.ledger,
            self.provider,
            self.open_store,
            self.clock,
            holder=holder,
            environment=self.environment,
        )

    @cached_property
    def notifier(self) -> "Notifier":
        """Tells what happens to runs through the channels that the environment sets."""
        from kwanzaa_compute.compute.notifying import Notifier

        # A simulation ends with this process, and nobody needs to hear of it.
        environment = {} if self.is_simulated else self.environment
        return Notifier(self.ledger, environment, self.clock)

    # -- buying -------------------------------------------------------------------------------

    def offers(self, providers: Sequence[str] | None = None) -> ForSale:
        """What is for sale now, of these providers or of all; they are asked side by side."""
        for name in providers or ():
            self.catalogue.find(name)  # a wrong name is an error, not a warning
        return ask_providers(self, list(providers or self.catalogue.providers))

    def known_offers(self, providers: Sequence[str] = (), *, offline: bool = False) -> ForSale:
        """Like `offers`, and for providers that cannot be asked what is known of them.

        That is their last answer, or the prices that came with this package: the newer of the two.
        """
        return known_offers(self, providers, offline=offline)

    def plan(self, config: Path | str | LoadedConfig, options: Options | None = None) -> Planned:
        """What the whole run would cost on every offer, and why the others are refused.

        Spends nothing. Raises `ConfigError` or `DataError` where the run could not work at all.
        """
        return plan_run(self, config, options or Options())

    def plan_sweep(
        self,
        config: Path | str | LoadedConfig | Sequence[Path | str | LoadedConfig],
        base_models: Sequence[str] = (),
        options: Options | None = None,
        *,
        always_together: bool = False,
    ) -> Sweep:
        """What an adapter for each of these base models, or configs, would cost, under one cap.

        The cheaper way is taken: one run that trains them all, or a run for each, of which each
        of `Sweep.next_run` can be given to `train` or `prepare`. Spends nothing. Raises what `plan`
        raises, and `UsageError` for fewer than two adapters or one that is named twice.
        """
        wanted = options or Options()
        configs = [config] if isinstance(config, Path | str | LoadedConfig) else config
        return plan_sweep(self, configs, base_models, wanted, always_together=always_together)

    def apply(
        self, config: Path | str | LoadedConfig, saved: Path | str, options: Options | None = None
    ) -> Applied:
        """The best offer of a saved plan, at today's price, for the config as it is now.

        `planned` of the result can be given to `train`. Spends nothing. Raises `BudgetError`
        where it would cost more than the cap now, `NothingFitsError` where it is no longer sold.
        """
        return apply_plan(self, config, saved, options or Options())

    # -- training -----------------------------------------------------------------------------

    def train(
        self,
        config: Path | str | LoadedConfig,
        options: Options | None = None,
        *,
        planned: Planned | None = None,
        say: Callable[[str], None] = lambda _text: None,
    ) -> Run:
        """Plans (unless `planned` is given), sends everything up and launches the first machine.

        Returns as soon as the machine has been asked for: `Run.wait` sees the run through.
        Raises `NothingFitsError` where no offer fits, `BudgetError` where money would be spent
        and there is no cap.
        """
        run = self.prepare(planned or self.plan(config, options), say=say)
        run.launch()
        return run

    def prepare(self, planned: Planned, *, say: Callable[[str], None] = lambda _text: None) -> Run:
        """Sends everything up and enters the run into the ledger, but launches nothing.

        `Run.wait` launches its first machine. Raises what `train` raises.
        """
        candidates = self.buyable(planned)
        record = new_record(self, planned, candidates)
        store = self.open_store(record.store_url)
        say(f"sending config and data to {record.store_url}")
        send(store, planned, self.open_store)
        if any(not shares_files(self, candidate) for candidate in candidates):
            upload_code(store)
        store.put(RUN, run_json(record, []))
        self.ledger.add_run(record)
        return Run(self, record.id)

    def buyable(self, planned: Planned) -> list[Candidate]:
        """The candidates that a run of this plan would try, best first; never an empty list.

        Only offers that were asked for now are bought: a cap holds at the price that was quoted.
        Raises `NothingFitsError` where nothing that fits can be had from here, `BudgetError` where
        money would be spent and there is no cap, `TransientError` where nobody could be asked.
        """
        return buyable(self, planned)

    def chosen_store(self, configured: str | None) -> str | None:
        """The store that somebody chose: the constructor's, `$KWANZAA_STORE`, the config's.

        A URL or a folder; raises `UsageError` for what is neither.
        """
        chosen = self._store or configured
        if chosen and urlsplit(chosen).scheme:
            require_store_url(chosen)
        return chosen

    def store_root(self, configured: str | None) -> str:
        """The URL below which runs keep their folders; a folder in `home` where none was chosen."""
        root = self.chosen_store(configured) or (self.home / "store").as_uri()
        return (root if urlsplit(root).scheme else Path(root).absolute().as_uri()).rstrip("/")

    # -- the whole project --------------------------------------------------------------------

    @property
    def project(self) -> Project:
        """The cap on all runs of this ledger together, and what they cost."""
        return self.ledger.project()

    def cap_project(self, max_usd: Decimal | None) -> None:
        """Caps what all runs of this ledger may cost together, past ones included; None lifts it.

        It holds for every process that uses the ledger, at each launch.
        """
        self.ledger.set_project_cap(max_usd)

    def choose_machine(self, wish: MachineWish) -> MachineChoice:
        """Machines to look around on that are for sale now, cheapest hour first. Spends nothing.

        Raises `NothingFitsError` where nothing matches, `BudgetError` where the cap is too low.
        """
        return choose_machine(self, wish)

    def provision(self, choice: MachineChoice) -> Run:
        """Enters a machine to look around on into the ledger; `Run.wait` launches and ends it."""
        return Run(self, enter_machine(self, choice))

    # -- finding runs again -------------------------------------------------------------------

    def run(self, run_id: str) -> Run:
        """The run of this id, or of a unique beginning of it; `UsageError` where there is none."""
        return Run(self, self.ledger.run(run_id).id)

    def runs(self) -> list[Run]:
        """All runs, newest first."""
        return [Run(self, record.id) for record in self.ledger.runs()]

    def resume(
        self, run_id: str, *, max_usd: Decimal | None = None, checkpoint: str | None = None
    ) -> Run:
        """Reopens a run that ended without an adapter, to go on from its newest checkpoint.

        With `checkpoint` (`"checkpoint-400"`) it goes on from that one: it is verified first, and
        later ones are set aside. Raises `UsageError` where it is unknown or damaged, or where the
        run is not over. Without, an open run is returned as it is: `Run.wait` takes it over where
        nobody watches it.
        """
        run = self.run(run_id)
        self.forget_dead_watcher(run.id)
        if checkpoint is not None:
            go_on_from(run, checkpoint)
        record = run.record
        if record.state is not RunState.RUNNING and not record.trains:
            raise UsageError(
                f"{record.id} was a machine to look around on, and has ended",
                mend="kwanzaa provision gets another one",
            )
        if record.state not in (RunState.RUNNING, RunState.DONE):
            self.ledger.reopen(
                record.id,
                candidates=record.candidates,
                max_usd=record.max_usd if max_usd is None else max_usd,
            )
        return run

    def forget_dead_watcher(self, run_id: str) -> None:
        """A watcher that died on this host need not be waited for until its lease runs out."""
        host, _, process = (self.ledger.watcher(run_id) or "").partition(":")
        pid = process.partition(":")[0]
        if host == socket.gethostname() and pid.isdigit() and not _is_running(int(pid)):
            self.ledger.expire_leases(run_id)

    @property
    def is_watched(self) -> bool:
        """Whether somebody sees all open runs of this ledger through just now (`kwanzaa watch`)."""
        return self.has_ledger and bool(self.ledger.watchers())

    def watch(self) -> "list[Step]":
        """One step of every open run that nobody else watches.

        This object stays their watcher until its leases run out, so call it again and again.
        """
        self._sweeper.be_present()
        return self._swept()

    def watch_once(self) -> "list[Step]":
        """Like `watch`, but afterwards others may watch the runs at once: for cron and the like."""
        for run_id in self.ledger.open_runs():
            self.forget_dead_watcher(run_id)
        try:
            return self._swept()
        finally:
            self.stop_watching()

    def stop_watching(self) -> None:
        """Leaves what `watch` holds to others at once."""
        self._sweeper.release()

    def _swept(self) -> "list[Step]":
        steps = [self._learnt(step) for step in self._sweeper.sweep()]
        self.notifier.saw(steps)
        return steps

    def _learnt(self, step: "Step") -> "Step":
        """What a sweep ended is no longer open, so this is its one chance to be learnt from."""
        run = Run(self, step.run.id)
        if run.state is RunState.DONE:
            learn_speed(run)
        return step

    @cached_property
    def _sweeper(self) -> "Supervisor":
        """One watcher for all sweeps: the leases of the last one are its own."""
        return self.supervisor()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
