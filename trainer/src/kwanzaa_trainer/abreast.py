"""Several adapters at once over one base: each is a run of its own, and only the base is shared.

Each adapter's trainer is the ordinary one, from its data to its done marker. It runs in a lane, a
thread that sleeps wherever it waits for a micro-batch. Once all lanes at work have asked for one,
the rows of all of them go through the base together, and each lane goes on with its own loss and
gradients. One thread is awake at any time, so that nothing depends on how threads are scheduled;
what a lane learns depends on its own rows alone, so lanes may begin, wait and end as they like.
"""

import gc
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kwanzaa_compute.clock import Clock
from kwanzaa_compute.store.objects import Store
from kwanzaa_trainer.attempt import EXIT_FAILED, EXIT_STOPPED, run_attempt, scratch
from kwanzaa_trainer.inputs import Inputs, read_config
from kwanzaa_trainer.journal import Journal
from kwanzaa_trainer.loading import Frozen, Loaded, adapt, limit_memory, load_frozen, survey
from kwanzaa_trainer.members import EXIT_APART, ApartError
from kwanzaa_trainer.memory import Abreast, Case, Footing, as_written, choose_abreast
from kwanzaa_trainer.model import twin
from kwanzaa_trainer.settings import Settings
from kwanzaa_trainer.site import Site
from kwanzaa_trainer.stopping import Stop

if TYPE_CHECKING:
    import torch

    from kwanzaa_trainer.fast.path import FastPath, Piece


def train_abreast(stores: Sequence[Store], settings: Settings, clock: Clock, stop: Stop) -> int:
    """Trains the runs in `stores`, which share a base, at once as far as memory goes.

    Each leaves in its own store what it would leave there alone. Returns 0 when all are done, 76
    where those that are neither done nor failed are to be trained alone, 75 after a stop, 1 where
    one has failed.
    """
    convoy = Convoy([], 1, stop)
    ground = Ground(stores, partial(setattr, convoy, "width"))
    convoy.narrowed = ground.say_narrower
    with scratch(settings) as work:
        shutil.rmtree(work / "base", ignore_errors=True)  # what is laid there is laid now
        for store in stores:
            name = store.url.rstrip("/").rpartition("/")[2]
            own = replace(settings, work=work / name, base=work / "base", name=name)
            convoy.lanes.append(Lane(name, partial(_attempt, store, own, clock, stop, ground)))
        convoy.travel()
    codes = {lane.code for lane in convoy.lanes}
    found = (EXIT_APART, EXIT_STOPPED, EXIT_FAILED)
    return next((code for code in found if code in codes), EXIT_STOPPED if None in codes else 0)


def _attempt(  # noqa: PLR0917 -- what an attempt consists of
    store: Store, settings: Settings, clock: Clock, stop: Stop, ground: "Ground", lane: "Lane"
) -> int:
    return run_attempt(store, settings, clock, stop, load=partial(ground.load, lane))


@dataclass(slots=True)
class Lane:
    """One adapter on its way: the company that its fast path has.

    `work` is the whole of it, and returns the exit code of the adapter's attempt.
    """

    name: str
    work: "Callable[[Lane], int]"
    code: int | None = None
    """How it ended; None while it has not."""
    asked: "tuple[FastPath, Piece] | None" = None
    """The micro-batch that it waits for."""
    share: float = 1.0
    """Its part of what the GPU draws."""
    _answer: "torch.Tensor | None" = None
    _has_room: bool = False
    _thread: threading.Thread | None = None
    _may_go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _sleeps: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def has_begun(self) -> bool:
        """Whether it has ever been let go."""
        return self._thread is not None

    def go(self, answer: "torch.Tensor | None" = None, *, has_room: bool = False) -> None:
        """Lets it run, with what it asked for, until it asks again or ends.

        No answer tells it that memory ended, `has_room` that it may try once more as it is.
        """
        self.asked, self._answer, self._has_room = None, answer, has_room
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()
        else:
            self._may_go.release()
        self._sleeps.acquire()

    def learn(self, path: "FastPath", piece: "Piece") -> "torch.Tensor":
        """The loss of the micro-batch, once it has gone through the base with the others'."""
        import torch

        self.asked = (path, piece)
        self._sleeps.release()
        self._may_go.acquire()
        answer, self._answer = self._answer, None
        if answer is None:
            raise torch.OutOfMemoryError
        return answer

    def made_room(self) -> bool:
        """Whether fewer adapters go at once than when memory ended."""
        return self._has_room

    def _run(self) -> None:
        try:
            self.code = self.work(self)
        finally:
            self.code = 1 if self.code is None else self.code
            self._sleeps.release()


@dataclass(slots=True)
class Convoy:
    """Lanes in their order, of which the first `width` that have not ended are at work."""

    lanes: list[Lane]
    width: int
    stop: Stop
    narrowed: Callable[[int], None] = lambda _: None
    """Hears how many go at once from now on, because memory ended."""
    _paths: "tuple[FastPath, ...]" = ()
    _together: "FastPath | None" = None

    def travel(self) -> None:
        """Until every lane has ended, or, after a stop, every one that has begun."""
        while at_work := self._at_work():
            idle = next((lane for lane in at_work if lane.asked is None), None)
            if idle is not None:
                idle.go()  # and look again: what the first one loads decides the width
                continue
            losses = self._learn([lane.asked for lane in at_work if lane.asked is not None])
            if losses is None:
                self._make_room(at_work)
                continue
            for lane, loss in zip(at_work, losses, strict=True):
                lane.share = 1 / len(at_work)
                lane.go(loss)
        self._part()

    def _at_work(self) -> list[Lane]:
        left = [lane for lane in self.lanes if lane.code is None]
        if not self.stop.reason:
            return left[: self.width]
        # Those that wait hear of the stop at a whole step, and the step in hand is taken there.
        for lane in left[self.width :]:
            if lane.asked is not None:
                lane.go(has_room=True)
        return [lane for lane in left if lane.has_begun and lane.code is None]

    def _make_room(self, lanes: Sequence[Lane]) -> None:
        """Half as many from now on; a lane that was alone has to help itself."""
        self._part()
        is_alone = len(lanes) == 1
        if not is_alone:
            self.width = len(lanes) // 2
            self.narrowed(self.width)
        for lane in lanes:
            lane.go(has_room=not is_alone)

    def _learn(self, asked: "Sequence[tuple[FastPath, Piece]]") -> "list[torch.Tensor] | None":
        """Each one's loss; None where memory ended."""
        import torch

        try:
            path = self._path(tuple(path for path, _ in asked))
            return list(path.learn_each([piece for _, piece in asked]))
        except torch.OutOfMemoryError:
            return None

    def _path(self, paths: "tuple[FastPath, ...]") -> "FastPath":
        from kwanzaa_trainer.fast.path import side_by_side

        if self._together is None or paths != self._paths:
            self._part()
            self._paths = paths
            self._together = paths[0] if len(paths) == 1 else side_by_side(paths)
        self._together.recompute_every = _most_frugal(paths)
        return self._together

    def _part(self) -> None:
        """Gives up what was captured for these adapters together."""
        if self._together is not None:
            self._together.close()
        self._together, self._paths = None, ()
        gc.collect()


def _most_frugal(paths: "Sequence[FastPath]") -> int:
    """How often blocks are computed again: as the path does it that does it most."""
    return min((path.recompute_every for path in paths if path.recompute_every), default=0)


@dataclass(slots=True)
class Ground:
    """What the adapters stand on: one base, and one stretch of memory to unpack it in."""

    stores: Sequence[Store]
    settled: Callable[[int], None]
    """Hears how many adapters may go at once, as soon as that is known."""
    frozen: Frozen | None = None
    scratch: Any = None
    words: str = ""
    """How many go at once, on which footing, and why."""
    journal: Journal | None = None
    """Where the adapter that was loaded last speaks."""

    def load(self, lane: Lane, site: Site, inputs: Inputs, footing: Footing | None) -> Loaded:
        """The shared base with this run's adapter. Raises `ApartError` where it must go alone."""
        self.journal = site.journal
        if footing is not None:
            raise ApartError("it needs its base in fewer bits")
        if self.frozen is None:
            self.frozen = self._settle(site, inputs)
        seen = self.frozen.seen
        seen = replace(seen, case=replace(seen.case, config=inputs.config))
        base = twin(self.frozen.base)
        loaded = adapt(site, replace(self.frozen, base=base, seen=seen), self.scratch)
        if loaded.fast is None:
            raise ApartError("adapters go at once on the fast path only")
        site.journal.say("abreast", self.words, rung=loaded.footing.name)
        loaded.fast.company = lane
        self.scratch = self.scratch or loaded.fast.model.scratch
        return loaded

    def say_narrower(self, width: int) -> None:
        """Tells how many adapters go at once from now on, because memory ended."""
        if self.journal is not None:
            text = f"memory ended: {width} at once from now on, the steps in hand taken again"
            self.journal.say("short_of_memory", text, level="warning", adapters=width)

    def _settle(self, site: Site, inputs: Inputs) -> Frozen:
        seen = survey(site, inputs)
        _require_fast(seen.case)
        largest = max(
            (replace(seen.case, config=read_config(store)) for store in self.stores),
            key=lambda one: one.config.adapter.lora.r,
        )
        wish = inputs.config.training.adapters_at_once
        number = len(self.stores) if wish == "auto" else min(wish, len(self.stores))
        if seen.device.is_gpu:
            memory = limit_memory(site)
            choice = choose_abreast(largest, number, memory, shares_rows=wish != "auto")
        else:
            choice = Abreast(number, as_written(inputs.config), "there is no GPU to run short of")
        self.settled(choice.adapters)
        self.words = (
            f"{choice.adapters} of {len(self.stores)} adapters at once:"
            f" {choice.footing.name}: {choice.reason}"
        )
        return load_frozen(site, inputs, seen, choice.footing)


def _require_fast(case: Case) -> None:
    if case.why_not_fast:
        raise ApartError(f"adapters go at once on the fast path only, and {case.why_not_fast}")
