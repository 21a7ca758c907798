"""CPU time of the processes that serve, and of the whole machine."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Reading:
    """CPU seconds so far, or between two readings."""

    groups: Mapping[str, float]
    """CPU seconds of each group of processes that serve."""
    machine: float
    """CPU seconds of all processes, including the load generator and other work."""

    def __sub__(self, earlier: "Reading") -> "Reading":
        groups = {name: seconds - earlier.groups[name] for name, seconds in self.groups.items()}
        return Reading(groups, self.machine - earlier.machine)

    @property
    def serving(self) -> float:
        """CPU seconds of all groups."""
        return sum(self.groups.values())


def read(roots: Mapping[str, Sequence[int]]) -> Reading:
    """CPU seconds so far. `roots` has the pids of each group; descendants of these processes count, too."""
    groups = {group: sum(tree_seconds(psutil.Process(pid)) for pid in pids) for group, pids in roots.items()}
    machine = psutil.cpu_times()
    return Reading(groups, machine.user + machine.nice + machine.system)


def tree_seconds(root: psutil.Process) -> float:
    """CPU seconds of a process and its descendants, including those that have ended."""
    total = 0.0
    for process in tree(root):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def tree(root: psutil.Process) -> Iterator[psutil.Process]:
    yield root
    yield from root.children(recursive=True)
