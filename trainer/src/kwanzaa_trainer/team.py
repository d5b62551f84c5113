"""Several processes that train one run together: each learns from its share of every step's rows.

There is no wrapper around the model: the gradients of an adapter are small, so they are summed once
a step, in one call. That holds for every way through the model, and a step's rows stay those of the
config however many processes share them, so a checkpoint resumes on any number of processes.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

from kwanzaa_compute.errors import RunError, UsageError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long processes wait for one that evaluates, saves or loads."""


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of one attempt. A team of one does nothing but return what it is given."""

    rank: int = 0
    size: int = 1
    machine: int = 0
    """The number of the machine that this process is on."""
    here: int = 1
    """How many of them are on each machine."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Team":
        """The team that torchrun made. Raises `UsageError` where its variables make no sense."""
        try:
            size = environ.get("WORLD_SIZE", "1")
            names = (
                ("RANK", "0"),
                ("WORLD_SIZE", size),
                ("GROUP_RANK", "0"),
                ("LOCAL_WORLD_SIZE", size),
            )
            team = cls(*(int(environ.get(name, default)) for name, default in names))
        except ValueError:
            team = cls(-1, 0)
        if not 0 <= team.rank < team.size or team.here < 1:
            raise UsageError(
                "RANK and WORLD_SIZE are not what torchrun sets", mend="unset RANK and WORLD_SIZE"
            )
        return team

    @property
    def leads(self) -> bool:
        """Whether this is the one process that speaks and writes for all."""
        return self.rank == 0

    @property
    def is_first_here(self) -> bool:
        """Whether this is the one process that looks its machine over."""
        return self.rank % self.here == 0

    def meet(self) -> None:
        """Waits until every process is here; before anything else of the team is used."""
        import torch.distributed as dist

        if self.size > 1 and not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if dist.is_nccl_available() else "gloo"
            dist.init_process_group(backend, timeout=PATIENCE)

    def part(self) -> None:
        """Ends the connections; the others may go on by themselves."""
        import torch.distributed as dist

        if self.size > 1 and dist.is_initialized():
            with suppress(RuntimeError):  # a peer that has gone already
                dist.destroy_process_group()

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of what is to be done: every `size`-th."""
        return items[self.rank :: self.size]

    def agreed(self, value: T) -> T:
        """What the leading process says, for all of them."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        said = [value]
        dist.broadcast_object_list(said, src=0)
        return said[0]

    def once_a_machine(self, make: Callable[[], T]) -> T:
        """What the first process on each machine makes, for all there; the others wait for it."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

        machines, made = [0] * self.size, cast("list[T]", [None] * self.size)
        dist.all_gather_object(machines, self.machine)
        first = machines.index(self.machine)
        dist.all_gather_object(made, make() if self.rank == first else None)
        return made[first]

    def require_alike(self, value: str, what: str) -> None:
        """Raises `RunError` in every process where they do not all have the same."""
        if self.size == 1:
            return
        import torch.distributed as dist

        said: list[str] = [""] * self.size
        dist.all_gather_object(said, value)
        if len(set(said)) > 1:
            raise RunError(f"the processes of the run do not have the same {what}: {said}")

    def sums(self, *values: float) -> list[float]:
        """Each figure summed over the processes, in float64."""
        if self.size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor]

    def sum_gradients(self, parameters: "Iterable[torch.nn.Parameter]") -> None:
        """Puts the sum over the processes in place of each gradient; a missing one counts as 0."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        trained = list(parameters)
        flat = torch.cat(
            [
                (torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float()
                for p in trained
            ]
        )
        dist.all_reduce(flat)
        at = 0
        for parameter in trained:
            piece = flat[at : at + parameter.numel()].view_as(parameter)
            parameter.grad = piece.to(parameter.dtype)
            at += parameter.numel()

    def vary_randomness(self, seed: int, step: int) -> None:
        """Gives the followers random numbers of their own; the leader's are the checkpoint's."""
        if not self.leads:
            import torch

            torch.manual_seed(seed + 1_000_003 * self.rank + 7919 * step)


ALONE = Team()
"""A process that trains a run by itself."""
