"""Waits with a deadline, for what other processes and threads do."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")


def until(look: Callable[[], Found], *, seconds: float = 2.0) -> Found:
    """Return what *look* finds as soon as that is something; fail after a while."""
    deadline = time.monotonic() + seconds
    never = threading.Event()
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        never.wait(0.005)
    return found


def is_running(pid: int) -> bool:
    """Tell whether there is such a process; a zombie that nobody reaped is none."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # gone meanwhile, or not Linux
        return not Path("/proc/self").exists()
