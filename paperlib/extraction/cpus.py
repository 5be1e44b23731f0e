"""How many CPUs there are to use; without torch, which takes a second to import."""

import os


def usable_cpus() -> int:
    """CPUs that this process may use, which a batch system or a container may have limited."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
