"""A workload in, rounds out: the other end of `benches/src/sides.rs`."""

import json
import os
import resource
import sys
import time
from typing import Any, Callable

import numpy as np
from safetensors import safe_open


def load(path: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Settings and tensors of a workload."""
    with safe_open(path, "np") as file:
        settings = json.loads(file.metadata()["settings"])
        return settings, {name: file.get_tensor(name) for name in file.keys()}


def serve(ready: dict[str, Any], round_: Callable[[], int], peak: Callable[[], int] | None = None) -> None:
    """Says `ready`, then does a round for every line of the input; `round_` gives the units that it did, `peak` the bytes
    at most, if not those of the process."""
    say({"ready": True, **ready})
    reset_peak()
    for _ in sys.stdin:
        begin = time.perf_counter()
        units = round_()
        say({"seconds": time.perf_counter() - begin, "units": units})
    say({"peak_bytes": (peak or peak_bytes)()})


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def reset_peak() -> None:
    """Sets the peak to what is resident now; see proc(5)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def peak_bytes() -> int:
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
