"""How much memory this process may still take."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_CACHED = ("inactive_file ", "active_file ")


def free_bytes() -> int:
    """What is free of the machine's memory, of its control groups' and of its own limits."""
    import psutil

    free: int = psutil.virtual_memory().available
    return max(min([free, *_of_groups(), *_of_limits()]), 0)


def _of_limits() -> Iterator[int]:
    """What the limits of `ulimit -v` and `-d` leave."""
    if sys.platform != "linux":
        return
    import resource

    import psutil

    held = psutil.Process().memory_info()
    for limit, taken in ((resource.RLIMIT_AS, held.vms), (resource.RLIMIT_DATA, held.data)):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY:
            yield most - taken


def _of_groups() -> Iterator[int]:
    """What the control groups that this process is in, and those above them, have left: a
    container's limit is one. Cached files give way."""
    try:
        lines = os.fsdecode(Path("/proc/self/cgroup").read_bytes()).splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            root, names = _GROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        elif not controllers:
            root, names = _GROUPS, ("memory.max", "memory.current")
        else:
            continue
        group = root / path.lstrip("/")
        while group.is_relative_to(root):
            yield from _of_group(group, *names)
            if group == root:
                break
            group = group.parent


def _of_group(group: Path, limit: str, used: str) -> Iterator[int]:
    try:
        most = (group / limit).read_text(encoding="ascii").strip()
        taken = int((group / used).read_text(encoding="ascii"))
        held = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:  # the root group has no limit; a container does not see its own path
        return
    if most.isdigit():
        files = sum(int(line.split()[1]) for line in held if line.startswith(_CACHED))
        yield int(most) - taken + files
