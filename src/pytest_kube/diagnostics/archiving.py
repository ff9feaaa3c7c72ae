"""Archive the state of a failed test: what there was, what changed, who did it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_kube.diagnostics.bounded import within
from pytest_kube.state import archive_file
from pytest_kube.state.archive import About, Stored

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_kube.history import Version
    from pytest_kube.kube import Kube
    from pytest_kube.state.etcd import Change

TIME_LIMIT = 5.0
"""Seconds; a test that fails is not to take for ever."""


def save(
    kube: Kube, folder: Path, changed: Sequence[tuple[Change, Version]], *, test: str
) -> str | None:
    """Write the archive of a test; return why there is none, or ``None``. Never raises.

    Args:
        kube: The handle of the test.
        folder: Where it goes.
        changed: What has changed in the test.
        test: The node id of the test.
    """
    if kube.cluster.state is None or kube.mark_revision is None:
        return f"the etcd of the {kube.cluster.name} is out of reach"
    deadline = time.monotonic() + TIME_LIMIT
    path = folder / archive_file.NAME
    try:
        # Whatever it is that does not answer: nobody waits longer.
        within(TIME_LIMIT, lambda: _write(kube, path, changed, test, deadline))
    except Exception as e:  # noqa: BLE001  # a failure must not become another error
        return str(e).partition("\n")[0] or type(e).__name__
    return None


def baseline(kube: Kube) -> list[Stored]:
    """Return what there was when the test began."""
    state, first = kube.cluster.state, kube.mark_revision
    return [
        Stored(entry.key, entry.revision, value)
        for entry in (state.entries(first) if state and first is not None else ())
        if (value := archive_file.value_of(entry.value)) is not None
    ]


def _write(
    kube: Kube,
    path: Path,
    changes: Sequence[tuple[Change, Version]],
    test: str,
    deadline: float,
) -> None:
    cluster, first = kube.cluster, kube.mark_revision or 0
    changed = [
        Stored(
            change.key,
            change.revision,
            archive_file.value_of(change.after) if change.after else None,
            version.time,
            version.user,
            version.verb,
        )
        for change, version in changes
    ]
    about = About(
        version=cluster.version,
        provider=cluster.provider,
        namespace=kube.namespace,
        test=test,
        made=datetime.now(UTC),
        first=first,
        last=changed[-1].revision if changed else first,
    )
    archive_file.write(path, about, baseline(kube), changed, deadline=deadline)
