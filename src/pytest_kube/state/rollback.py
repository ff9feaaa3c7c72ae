"""Marks: revisions to which the whole state can be brought back.

etcd knows every version of every key since its last compaction. A rollback writes
what differs from the mark in one transaction; where controllers run, those for whom
they would make things again end in one or two before it. The API server and everybody
who watches see ordinary events with rising resource versions, and no finalizer runs.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pytest_kube.errors import RollbackError, hide_frames
from pytest_kube.state import keys
from pytest_kube.state.etcd import Change, CompactedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from pytest_kube.state.etcd import Entry, Etcd

__tracebackhide__ = hide_frames

QUIET, RESTLESS = 0.003, 0.02
"""Seconds without a write of anybody's, after which a rollback counts as settled; the
second one when somebody was seen writing meanwhile, for then more may follow, and where
no components run: who writes there is a thread of the test, and slower than they."""

FOREIGN = 0.1
"""And when it was none of the components, which answer at once or not at all: a thread
of the test, for example, which goes on at its own pace."""

QUIET_SHARE = 0.25
"""Or this share of the time that the rollback took: what was much is noticed late."""

NOTICED = 2e-6
"""Seconds for each key of a rollback until components have noticed that an owner is
gone: what was much keeps them busy."""

MANY = 100
"""Keys from which on a rollback keeps everybody busy for a while, and it is worth
asking whether all with the same prefix can go."""

ROUNDS = 3
"""How often what components write is taken back before it counts as their due."""

SETTLE_TIMEOUT = 5.0
"""Seconds; components write for a few milliseconds to objects they have just lost."""

MARK_TIMEOUT = 1.0
"""Seconds that a mark waits for components at most; some never stop."""

SPARED = 200_000
"""Revisions that workers who share a cluster leave each other; hours of testing."""

COMPACT_AFTER = 20_000
"""Revisions between two compactions; about a hundred tests, and 100 MB."""


@dataclass(eq=False)
class Mark:
    """A state to which a cluster can be brought back.

    Attributes:
        revision: The revision whose state it is, but for what differed.
        count: How many keys there were.
        since: The revision at which the mark was taken: where its history starts.
        differed: What keys were at the mark, where that is not what they were at
            the revision; ``None`` for keys that did not exist.
    """

    revision: int
    count: int
    since: int
    differed: dict[str, bytes | None] = field(default_factory=dict)


class _Look(NamedTuple):
    """What differs from a mark: at which revision, and what it is to be."""

    revision: int
    total: int
    values: dict[str, bytes | None]
    restored: list[Change]


class Components(Protocol):
    """The components of a control plane that write by themselves."""

    def refreshed(self, restored: Sequence[Change]) -> AbstractContextManager[None]:
        """Let those forget what they know that cannot forget it by watching.

        Args:
            restored: What is about to be written: objects of the time before the mark,
                which were changed or deleted since. They are, inside of the context.
        """

    def author(self, change: Change) -> str | None:
        """Return the user who made a change, where that is known."""

    def follow(self, written: Mapping[str, bytes | None]) -> None:
        """Wait until what runs outside of etcd is gone when its object is.

        Args:
            written: What a rollback has just written.

        Raises:
            ClusterError: It did not go.
        """


class State:
    """What the etcd of a cluster stores, with marks, rollback and compaction.

    Args:
        etcd: The cluster's etcd.
        components: What else writes to it.

    Attributes:
        spared: How many of the newest revisions no compaction takes, for the sake of
            others who use the same etcd and whose marks are not known here.
    """

    def __init__(self, etcd: Etcd, components: Components | None = None) -> None:
        self._etcd = etcd
        self._components = components
        self.spared = 0
        self._marks: list[Mark] = []
        self._compacted = 0
        self._last: Mark | None = None
        self._pause = threading.Event()

    def mark(self) -> Mark:
        """Remember the state as it is now. Release the mark when it is of no use."""
        revision, count = self._etcd.count(keys.PREFIX)
        if self._last is None or self._last.revision < revision:
            if self._last:
                self._sweep(self._last)
            if self._components:
                # They may be at work for what was made since.
                self.settle(RESTLESS, MARK_TIMEOUT)
            revision, count = self._etcd.count(keys.PREFIX)
        self._last = None
        mark = Mark(revision, count, revision)
        self._marks.append(mark)
        return mark

    def adopt(self, *marks: Mark) -> None:
        """Take over marks of somebody who used this etcd before."""
        self._marks += marks

    def release(self, mark: Mark) -> None:
        """Forget a mark; old history goes when no mark needs it."""
        self._marks = [m for m in self._marks if m is not mark]
        self._compact(self._etcd.count(keys.PREFIX)[0])

    def changes(self, after: int) -> list[Change]:
        """Return every change since a revision, in order, the plane's own left out.

        Raises:
            CompactedError: Part of them is forgotten.
        """
        changes = self._etcd.changes(after, self._etcd.count(keys.PREFIX)[0])
        return [c for c in changes if not c.key.startswith(keys.NOT_STATE)]

    def entries(self, revision: int) -> list[Entry]:
        """Return the whole state at a revision, without the processes' own leases.

        Raises:
            CompactedError: It is forgotten.
        """
        entries = self._etcd.entries(keys.PREFIX, revision=revision)
        return [e for e in entries if not e.key.startswith(keys.LEASES)]

    def write(self, values: Mapping[str, bytes | None]) -> None:
        """Write *values* in one transaction; ``None`` deletes a key."""
        self._etcd.write(values)

    def roll_back(self, mark: Mark) -> dict[str, bytes | None]:
        """Bring the whole state back to *mark*, and wait until it stays there.

        Returns:
            What was written: the keys and their values, ``None`` for deleted ones.

        Raises:
            RollbackError: Somebody goes on writing, or the mark is too old.
            ClusterError: etcd refused, or did not answer. The transaction that failed
                changed nothing, but the state is not the mark's.
        """
        after, ours, look = mark.revision, 0, None
        newest, count = after, mark.count
        rounds, quiet_since, deadline = 0, 0.0, 0.0
        quiet = QUIET if self._components else RESTLESS
        fought: Counter[str] = Counter()
        written: dict[str, bytes | None] = {}
        while True:
            values: Mapping[str, bytes | None] = {}
            if newest > after or look is None:
                began = time.monotonic()
                look = self._look(mark, after, ours)
                after, newest, count = look.revision, look.revision, look.total
                look = self._still_wrong(look, rounds, ours, fought)
                values = look.values
                if values:
                    if rounds and began > deadline:
                        raise RollbackError(_restless(values))
                    if rounds:
                        quiet = max(quiet, RESTLESS)
                    if rounds and self._is_foreign(look):
                        quiet = max(quiet, FOREIGN)
                    rounds += 1
                    fought.update(list(look.values))
                    ours, made = self._write(look)
                    if ours == after + made:  # nobody wrote between look and write
                        after = ours
                    written |= values
                    quiet_since = time.monotonic()
                    quiet = max(quiet, (quiet_since - began) * QUIET_SHARE)
                    if self._components:
                        self._components.follow(values)
                        quiet_since = time.monotonic()
                    deadline = deadline or quiet_since + SETTLE_TIMEOUT
            # Others may write what is no state all the time: leases, for example.
            if not values and (not rounds or time.monotonic() - quiet_since >= quiet):
                break
            self._pause.wait(0.001)
            newest, count = self._etcd.count(keys.PREFIX)
        # Where etcd is full, it still deletes, but nobody could write any more.
        self._etcd.check_health(timeout=SETTLE_TIMEOUT)
        mark.revision, mark.count, mark.differed = newest, count, {}
        self._last = mark
        return written

    def _write(self, look: _Look) -> tuple[int, int]:
        """Write what a look found; return the newest revision, and how many it made.

        Owners go a moment before what controllers would make again for them, those of
        others last: by then everybody who watches knows that they are gone.
        """
        places = tuple(keys.OWNERS.values())
        large = len(look.values) >= MANY
        owned = keys.OWNED if large else ()
        parts: list[dict[str, bytes | None]] = [{}, {}, {}]
        for key, value in look.values.items():
            is_owner = self._components and value is None and key.startswith(places)
            parts[key.startswith(owned) if is_owner else 2][key] = value
        parts = [part for part in parts if part]
        with contextlib.ExitStack() as stack:
            if self._components and look.restored:
                stack.enter_context(self._components.refreshed(look.restored))
            for part in parts:
                if large and part is not parts[0]:
                    self._pause.wait(len(look.values) * NOTICED)
                emptied = self._emptied(part, look.revision)
                single = {
                    k: v for k, v in part.items() if keys.folder(k) not in emptied
                }
                revision = self._etcd.write(single, emptied=emptied)
        return revision, len(parts)

    def _emptied(self, values: Mapping[str, bytes | None], revision: int) -> set[str]:
        """Return the prefixes with many keys of which none is to be left.

        One operation does for all of them. It also takes what somebody puts there in
        this moment, which is as new as the rest.
        """
        gone = Counter(
            keys.folder(key) for key, value in values.items() if value is None
        )
        mixed = {keys.folder(key) for key, value in values.items() if value is not None}
        many = {
            prefix: count
            for prefix, count in gone.items()
            if count >= MANY and prefix not in mixed and prefix != keys.HEARTBEATS
        }
        existing = self._etcd.counts(many, revision)
        return {prefix for prefix in many if existing[prefix] == many[prefix]}

    def _still_wrong(
        self, look: _Look, rounds: int, ours: int, fought: Counter[str]
    ) -> _Look:
        """Leave out what need not be written back again, after so many rounds."""
        if not rounds:
            return look
        # After much ado, events come for seconds; the next mark sweeps them away.
        values = {k: v for k, v in look.values.items() if not k.startswith(keys.EVENTS)}
        look = look._replace(values=values)
        if rounds < ROUNDS or not self._components:
            return look
        return self._without_progress(look, ours, fought)

    def _without_progress(self, look: _Look, ours: int, fought: Counter[str]) -> _Look:
        """Leave out what components insist on, since our last write.

        They had not yet done all there was to do for the objects of the mark when it
        was taken, and would do it again after each rollback.

        Args:
            look: What differs.
            ours: The revision of our last write.
            fought: How often each key was written back.
        """
        assert self._components is not None  # noqa: S101  # for the type checker
        authors: dict[str, set[str | None]] = {}
        owners: dict[str, str] = {}
        for change in self._etcd.changes(ours, look.revision):
            if change.key in look.values:
                authors.setdefault(change.key, set()).add(
                    self._components.author(change)
                )
                owners[change.key] = keys.owner(change.after or b"{}")
        existing = {""} | self._etcd.values(set(owners.values()) - {""}).keys()
        # What is made for an owner that has to go is not even late.
        existing -= {key for key, value in look.values.items() if value is None}
        progress = {
            key
            for key, users in authors.items()
            if all(map(keys.is_component, users))
            and owners[key] in existing
            and (owners[key] or fought[key] >= ROUNDS)
        }
        return look._replace(
            values={k: v for k, v in look.values.items() if k not in progress},
            restored=[c for c in look.restored if c.key not in progress],
        )

    def _is_foreign(self, look: _Look) -> bool:
        """Say whether somebody else than a component wrote, since our last write."""
        if self._components is None:
            return True
        then = {change.key: change.after for change in look.restored}
        found = self._etcd.values(look.values, revision=look.revision)
        return any(
            keys.foreign(value) != keys.foreign(then.get(key))
            for key, value in found.items()
        )

    def _sweep(self, mark: Mark) -> None:
        """Delete what components wrote since the last rollback, to *mark*.

        That is a late answer to what the rollback took away, if nobody else wrote; if
        somebody did, what lies in namespaces that do not exist certainly is.
        """
        look = self._look(mark, mark.revision, 0)
        found = self._etcd.values(look.values, revision=look.revision)
        late = {key for key, value in found.items() if keys.by_component(value)}
        if look.restored or late != look.values.keys():
            homes = {
                key: f"{keys.PREFIX}namespaces/{keys.namespace(found[key])}"
                for key in late
            }
            existing = self._etcd.values(set(homes.values()))
            late = {key for key, home in homes.items() if home not in existing}
        if late:
            self._etcd.write(dict.fromkeys(late))

    def settle(self, quiet: float, timeout: float) -> int | None:
        """Wait until nobody has written for *quiet* seconds, at most *timeout*.

        Returns:
            ``None``; or, when that did not come, the revision at which it began.
        """
        started = last = time.monotonic()
        first, _ = self._etcd.count(keys.PREFIX)
        seen = first
        while (now := time.monotonic()) - last < quiet:
            if now - started >= timeout:
                return first
            self._pause.wait(quiet / 20)
            changed = self._etcd.changed(keys.PREFIX, seen)
            beats = [e for e in changed.entries if e.key.startswith(keys.STAYS)]
            if changed.revision - seen > len(beats):
                last = time.monotonic()
            seen = changed.revision
        return None

    def _look(self, mark: Mark, after: int, ours: int) -> _Look:
        """Find what differs from *mark*, of what was written after a revision.

        Args:
            mark: The mark.
            after: What was written until then does not differ.
            ours: The revision of our own last write, which does not either.

        Raises:
            RollbackError: etcd does not know any more what was at the mark.
        """
        try:
            return self._compare(mark, after, ours)
        except CompactedError as e:
            raise RollbackError(
                "the cluster cannot be rolled back: etcd has forgotten revision "
                f"{mark.revision}, at which the mark was taken; something compacted it "
                "that is not us. Does the test, or an argument of the profile, let "
                "etcd or the API server compact?"
            ) from e

    def _compare(self, mark: Mark, after: int, ours: int) -> _Look:
        changed = self._etcd.changed(keys.PREFIX, after)
        written = [entry for entry in changed.entries if entry.revision != ours]
        touched = {entry.key for entry in written} | mark.differed.keys()
        missing: set[str] = set()
        created = {entry.key for entry in written if entry.created > after}
        if (
            after == mark.revision
            and not mark.differed
            and changed.total == mark.count + len(created)
        ):
            # Nothing that existed was deleted, not even to be created again.
            older = touched - created
        else:
            now = self._etcd.keys(keys.PREFIX, revision=changed.revision)
            then = self._keys_of(mark)
            older, missing = touched & then, then - now
            created = (touched & now) - then
        nodes = {keys.NODES + name for key in created if (name := keys.node_of(key))}
        stay = self._etcd.values(nodes - created, revision=changed.revision)
        values: dict[str, bytes | None] = {
            key: None
            for key in created
            if not key.startswith(keys.NOT_STATE)
            and keys.NODES + keys.node_of(key) not in stay
        }
        older = {key for key in older if not key.startswith(keys.STAYS)}
        older |= {
            key for key in missing if not key.startswith((*keys.NOT_STATE, keys.EVENTS))
        }
        current = self._etcd.values(older, revision=changed.revision)
        restored = [
            Change(changed.revision, key, current.get(key), value)
            for key, value in self._before(older, mark).items()
            if not keys.alike(key, current.get(key), value)
        ]
        values |= {change.key: change.after for change in restored}
        return _Look(changed.revision, changed.total, values, restored)

    def _before(self, keys: set[str], mark: Mark) -> dict[str, bytes]:
        """Return what those of *keys* that existed at the mark were then."""
        found = self._etcd.values(keys - mark.differed.keys(), revision=mark.revision)
        known = ((key, mark.differed[key]) for key in keys & mark.differed.keys())
        return found | {key: value for key, value in known if value is not None}

    def _keys_of(self, mark: Mark) -> set[str]:
        there = self._etcd.keys(keys.PREFIX, revision=mark.revision)
        gone = {key for key, value in mark.differed.items() if value is None}
        return (there | mark.differed.keys()) - gone

    def _compact(self, newest: int) -> None:
        """Let etcd forget what no mark needs, once in a while.

        A mark that lives on remembers by itself what differed by then.
        """
        if newest - self._compacted < COMPACT_AFTER:
            return
        for mark in filter(None, {*self._marks, self._last}):
            look = self._look(mark, mark.revision, 0)
            mark.revision, mark.count = look.revision, look.total
            mark.differed = look.values
        self._compacted = newest
        if newest > self.spared:
            self._etcd.compact(newest - self.spared)


def _restless(values: Mapping[str, bytes | None]) -> str:
    names = "\n".join(
        f"    {key.removeprefix(keys.PREFIX)}" for key in sorted(values)[:5]
    )
    return (
        "the cluster cannot be rolled back: something went on writing to it for "
        f"{SETTLE_TIMEOUT:.0f} s. Written last:\n{names}\n"
        "  Is a thread or a process of the test, or a controller that it started "
        "by itself, still running? run_controller stops those it starts"
    )
