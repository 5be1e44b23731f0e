"""Timing by turns, peak memory, and what the machine is."""

import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

STATUS = Path("/proc/self/status")
PACKAGES = ("torch", "torchvision", "numpy", "numba", "scipy")


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def times_by_turns(
    calls: Mapping[str, Callable[[], object]],
    device: str,
    rounds: int,
    *,
    seconds: float = 0.0,
    warm_up: bool = True,
) -> dict[str, list[float]]:
    """Seconds per call, `rounds` times each; the calls take turns.

    A first turn is not counted, unless `warm_up` is false.  A turn repeats a call for
    about `seconds`.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + warm_up):
        for name, call in calls.items():
            repeats, _ = 0, _wait(device)
            start = perf_counter()
            while repeats == 0 or perf_counter() - start < seconds:
                call()
                repeats += 1
            _wait(device)
            if turn or not warm_up:
                times[name].append((perf_counter() - start) / repeats)
    return times


def ratio(times: Mapping[str, list[float]], slow: str, fast: str) -> float:
    """Median over rounds of how many times longer `slow` took than `fast`."""
    return median(s / f for s, f in zip(times[slow], times[fast], strict=True))


def peak_memory(call: Callable[[], object], device: str) -> float | None:
    """MB that a call takes at its peak above what was held before; None where nobody counts."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
    except OSError:
        return None
    before = _resident("VmRSS")
    call()
    return max(0, _resident("VmHWM") - before) / 1e3  # pages may have been given back


def _resident(field: str) -> int:
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[field].split()[0])


def machine(device: str) -> dict:
    """Processor or GPU, threads, load when the run began, and versions."""
    info = Path("/proc/cpuinfo")
    names = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(": ")[2] for line in names if line.startswith("model name")]
    gpu = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name() if gpu else (models or [platform.processor()])[0],
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
    }
