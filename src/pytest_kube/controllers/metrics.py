"""How often a program reconciled, which controller-runtime serves as a metric."""

from __future__ import annotations

import re
from collections import Counter

from pytest_kube.errors import ControllerError, hide_frames

__tracebackhide__ = hide_frames

TIMEOUT = 5.0
"""Seconds for an answer of the metrics endpoint."""

METRIC = "controller_runtime_reconcile_total"
_SAMPLE = re.compile(
    rf'^{METRIC}\{{(?:[^}}]*,)?result="(\w+)"[^}}]*\}} (\S+)', re.MULTILINE
)
_HOW = (
    "A program that is built on controller-runtime tells by its metrics: give it "
    "--metrics-bind-address=127.0.0.1:{port:metrics}, in projects of Kubebuilder also "
    "--metrics-secure=false"
)
_OK = 200


def reconciles(name: str, port: int | None) -> Counter[str]:
    """Return how often each result came, over all controllers of a program.

    Args:
        name: What the program is called in messages.
        port: Where it serves metrics on 127.0.0.1, over plain HTTP.

    Raises:
        ControllerError: It serves none; the text shows what was seen instead.
    """
    import urllib3

    if port is None:
        raise ControllerError(
            f"controller {name}: nobody tells how its reconciles ended. kopf does for "
            f"its handlers. {_HOW}"
        )
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib3.PoolManager(retries=False, timeout=TIMEOUT) as pool:
        try:
            answer = pool.request("GET", url)
        except urllib3.exceptions.HTTPError as e:
            seen = str(getattr(e, "reason", None) or e)
            raise ControllerError(f"controller {name}: {url}: {seen}. {_HOW}") from e
    text = answer.data.decode("utf-8", "replace")
    if answer.status != _OK:
        raise ControllerError(
            f"controller {name}: {url} answered {answer.status}: "
            f"{(text[:200].strip() or answer.reason or '').rstrip('.')}. {_HOW}"
        )
    samples = _SAMPLE.findall(text)
    if not samples:
        raise ControllerError(
            f"controller {name}: {url} has no metric {METRIC}; it has "
            f"{len(text.splitlines())} lines of others. {_HOW}"
        )
    total: Counter[str] = Counter()
    for result, count in samples:
        total[result] += int(float(count))
    return total
