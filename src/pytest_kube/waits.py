"""What a handle waits for; every version is looked at, a timeout explains itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from pytest_kube import conditions
from pytest_kube.errors import (
    ClusterError,
    ConflictError,
    KubeError,
    NotFoundError,
    WaitFailedError,
    WaitTimeoutError,
    hide_frames,
)
from pytest_kube.explanation import Explanation, told
from pytest_kube.history import Selection, read
from pytest_kube.objects import Object
from pytest_kube.observation import Observation, Target, key_of
from pytest_kube.steps import step
from pytest_kube.verbs import Ref, Verbs

if TYPE_CHECKING:
    from pytest_kube.conditions import Condition

__tracebackhide__ = hide_frames

Answer = TypeVar("Answer")
ConditionLike = Callable[[Any], Any] | str
"""A condition, a function of the object or ``None``, or what kubectl wait takes."""

Propagation = Literal["Background", "Foreground", "Orphan"]

INTERVAL = 0.05
"""Seconds between two calls of :meth:`Waits.eventually`."""

_FAILED = conditions.failed


@dataclass(repr=False)
class Waits(Verbs):
    """The waits of a handle; see `Kube`."""

    deadline: float | None = None
    _failures: set[Any] = field(default_factory=set, init=False)

    @step
    def delete(
        self,
        ref: Ref,
        *,
        propagation: Propagation = "Background",
        grace: int | None = None,
        wait: bool = True,
        timeout: float | None = None,
        namespace: str | None = None,
    ) -> None:
        """Delete an object, and wait until it is gone; its uid tells.

        Args:
            ref: The object. It is no error when it does not exist any more.
            propagation: What becomes of the objects that it owns: ``Background``,
                ``Foreground`` (they go first) or ``Orphan`` (they stay).
            grace: Seconds that a pod has to end; its own when omitted.
            wait: Whether to wait.
            timeout: Seconds to wait at most; the handle's default when omitted.
            namespace: Another namespace than the handle's.

        Raises:
            WaitTimeoutError: It still exists; the text names its finalizers.
        """
        seconds = self._seconds(timeout)
        if propagation not in get_args(Propagation):
            allowed = ", ".join(get_args(Propagation))
            raise ValueError(f"propagation={propagation!r}: allowed are {allowed}")
        options: dict[str, Any] = {"propagationPolicy": propagation}
        known = _uid(ref)
        if known:
            options["preconditions"] = {"uid": known}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        path = self._path(ref, namespace)
        try:
            answer = self._client.request("DELETE", path, body=options)
        except NotFoundError:
            return
        except ConflictError as e:
            if known and "UID in" in str(e):
                return  # it is gone, and another one has its name
            raise
        # What is gone at once is answered with a Status.
        uid = answer["metadata"].get("uid") or answer.get("details", {}).get("uid")
        if wait and uid:
            gone = conditions.deleted_uid(uid)
            self.wait_for(ref, gone, timeout=seconds, unless=None, namespace=namespace)

    @step
    def wait_for(
        self,
        ref: Ref,
        condition: ConditionLike,
        *,
        timeout: float | None = None,
        unless: ConditionLike | None = _FAILED,
        namespace: str | None = None,
    ) -> Object:
        """Wait until a condition holds for an object, and return the object.

        The object is listed, then watched: every version of it is looked at, and
        nothing is polled. When a controller under test ends meanwhile, its error is
        raised at once.

        Args:
            ref: The object; it need not exist yet.
            condition: A function of the object, or of ``None`` while there is none;
                one from ``pytest_kube``; or what ``kubectl wait --for`` takes, for
                example ``"condition=Ready"`` or ``"jsonpath={.status.phase}=Running"``.
            timeout: Seconds; the handle's default (``--kube-timeout``) when omitted.
            unless: Give up as soon as this holds instead. By default when the object
                reports that it failed for good (``failed``), or was deleted while the
                test waited and nobody owns it who would make it again; what an earlier
                wait has shown to the test does not count. ``None``: never give up.
            namespace: Another namespace than the handle's.

        Returns:
            The object for which the condition held. For a condition that holds
            without an object, such as ``deleted``: the object as last seen.

        Raises:
            WaitTimeoutError: It did not come true in time. The text shows why, the
                object as last seen, what changed, its events, and what the
                controllers did.
            WaitFailedError: It cannot come true any more.
            ControllerExitedError: A controller under test ended.

        Example:
            >>> kube.wait_for("memcached/sample", condition("Available"))
            >>> kube.wait_for("deployment/sample",
            ...               lambda d: d and d["spec"]["replicas"] == 3)
        """
        __tracebackhide__ = True
        wanted = conditions.as_condition(condition)
        failing = None if unless is None else conditions.as_condition(unless)
        observation = self._observe(ref, timeout, namespace)
        obj = seen = None
        with closing(observation.versions(_uid(ref))) as versions:
            for change in versions:
                obj = change.after
                seen = obj or change.before or seen
                if _holds(wanted, obj, observation):
                    self._shown(obj)
                    return Object(obj or seen or {})
                if failing is not None and (
                    why := self._cannot(wanted, failing, obj, seen)
                ):
                    elapsed = observation.elapsed
                    headline = (
                        f"{observation.target}: {wanted.name} cannot be reached any "
                        f"more, after {elapsed:.1f} s: {why}"
                    )
                    text = self._explain(observation, wanted).of_one(headline, obj)
                    raise WaitFailedError(text, last=obj, elapsed=elapsed)
        elapsed = observation.elapsed
        headline = (
            f"{observation.target}: {wanted.name} not reached within {elapsed:.1f} s"
            f"{self._cut_short(timeout)}"
        )
        text = self._explain(observation, wanted).of_one(headline, obj)
        raise WaitTimeoutError(text, last=obj, elapsed=elapsed)

    def _cannot(
        self,
        wanted: Condition,
        failing: Condition,
        obj: dict[str, Any] | None,
        seen: dict[str, Any] | None,
    ) -> str:
        """Say why it is no use to wait any longer; empty when it may be."""
        if failing is not _FAILED:
            return f"{failing.name} holds" if failing(obj) else ""
        if obj is None:
            owned = not seen or seen["metadata"].get("ownerReferences")
            return (
                "" if owned else "it was deleted, and has no owner who makes it again"
            )
        if not failing(obj) or _failure(obj) in self._failures:
            return ""
        if _holds_of_nothing(wanted):
            return ""  # what failed can still be deleted
        return f"it reports {conditions.failure(obj)}"

    def _shown(self, obj: dict[str, Any] | None) -> None:
        """Note a failure that the test knows of from now on."""
        if obj and conditions.failed(obj):
            self._failures.add(_failure(obj))

    @step
    def wait_for_all(
        self,
        kind: str,
        condition: ConditionLike,
        *,
        count: int | None = None,
        labels: str | Mapping[str, str] = "",
        timeout: float | None = None,
        namespace: str | None = None,
    ) -> list[Object]:
        """Wait until a condition holds for all objects of a kind, and return them.

        Args:
            kind: Plural, singular, short name or Kind.
            condition: As for :meth:`wait_for`.
            count: How many there have to be, no more and no less; at least one when
                omitted.
            labels: A label selector, ``"app=web,tier!=db"``, or a mapping.
            timeout: Seconds; the handle's default when omitted.
            namespace: Another namespace than the handle's; ``""`` for all of them.

        Raises:
            WaitTimeoutError: It did not come true in time; the text names the objects
                for which it does not hold.
            ControllerExitedError: A controller under test ended.

        Example:
            >>> kube.wait_for_all("pods", ready, labels="app=web", count=3)
        """
        __tracebackhide__ = True
        wanted = conditions.as_condition(condition)
        resource, where = self._kind(kind, namespace)
        target = Target(resource, where, labels=labels)
        observation = Observation(
            self._client, target, self._seconds(timeout), self.controllers
        )
        failing: dict[Any, dict[str, Any]] = {}
        with closing(observation.run()) as told_of:
            for changes in told_of:
                for change in changes:
                    key = key_of(change.after or change.before or {})
                    failing.pop(key, None)
                    if change.after and not _holds(wanted, change.after, observation):
                        failing[key] = change.after
                there = len(observation.objects)
                if not failing and (there == count if count is not None else there):
                    return [Object(obj) for obj in observation.objects.values()]
        there, elapsed = len(observation.objects), observation.elapsed
        how = "all" if count is None else str(count)
        headline = (
            f"{target}: {wanted.name} of {how} not reached within {elapsed:.1f} s"
            f"{self._cut_short(timeout)}: there {'is' if there == 1 else 'are'} {there}"
            + (f", and for {len(failing)} it does not hold" if failing else "")
        )
        left = list(failing.values())
        raise WaitTimeoutError(
            self._explain(observation, wanted).of_several(headline, left),
            last=left[0] if left else None,
            elapsed=elapsed,
        )

    @step
    def consistently(
        self,
        ref: Ref,
        condition: ConditionLike,
        *,
        seconds: float,
        namespace: str | None = None,
    ) -> Object:
        """See to it that a condition holds for an object all the time, for a while.

        What has happened until now is for :meth:`history` to tell, without waiting.

        Args:
            ref: The object.
            condition: As for :meth:`wait_for`; every version is looked at.
            seconds: For how long.
            namespace: Another namespace than the handle's.

        Returns:
            The object as it is at the end.

        Raises:
            WaitFailedError: It did not hold; the text shows the version, and why.
            ControllerExitedError: A controller under test ended.
        """
        __tracebackhide__ = True
        wanted = conditions.as_condition(condition)
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds}: expected seconds, 0 or more")
        observation = self._observe(ref, seconds, namespace)
        obj = None
        with closing(observation.versions()) as versions:
            for change in versions:
                obj = change.after
                if _holds(wanted, obj, observation):
                    continue
                elapsed = observation.elapsed
                headline = (
                    f"{observation.target}: {wanted.name} was to hold for {seconds:g} "
                    f"s, and did not after {elapsed:.2f} s"
                )
                if change.before:
                    headline += f": {told(change)}"
                text = self._explain(observation, wanted).of_one(headline, obj)
                raise WaitFailedError(text, last=obj, elapsed=elapsed)
        if not observation.looked:
            headline = f"{observation.target}: nobody knows whether {wanted.name} held"
            text = self._explain(observation, wanted).of_one(headline, None)
            raise WaitTimeoutError(text, last=None, elapsed=observation.elapsed)
        return Object(obj or {})

    @step
    def eventually(
        self, call: Callable[[], Answer | None], *, timeout: float | None = None
    ) -> Answer:
        """Call something again and again until it returns something true.

        For what is no object of the API: a metric, a file, an HTTP answer. What
        raises AssertionError, LookupError or KubeError counts as not yet.

        Args:
            call: A function without arguments; it is called every 0.05 s.
            timeout: Seconds; the handle's default when omitted.

        Returns:
            What it returned.

        Raises:
            WaitTimeoutError: It did not in time; what it raised last is the cause.
            ControllerExitedError: A controller under test ended.

        Example:
            >>> kube.eventually(lambda: "reconciled" in controller.output)
        """
        __tracebackhide__ = True
        seconds = self._seconds(timeout)
        started = time.monotonic()
        pause = threading.Event()
        while True:
            answer, error = None, None
            try:
                answer = call()
            except (AssertionError, LookupError, KubeError) as e:
                error = e
            if error is None and answer:
                return answer
            for controller in self.controllers:
                if failure := controller.failure():
                    raise failure
            if time.monotonic() - started >= seconds:
                break
            pause.wait(INTERVAL)
        elapsed = time.monotonic() - started
        named: Any = call
        name = conditions.as_condition(named).name
        last = f"raised {error!r}" if error else f"returned {answer!r}"
        lines = [
            f"{name}: nothing true within {elapsed:.1f} s{self._cut_short(timeout)}",
            f"  the last call {last:.300}",
            *(f"  controller   {c.summary()}" for c in self.controllers),
        ]
        text = "\n".join(lines)
        raise WaitTimeoutError(text, last=None, elapsed=elapsed) from error

    @step
    def settle(self, *, quiet: float = 0.2, timeout: float | None = None) -> None:
        """Wait until nobody has written to the cluster for a while.

        Heartbeats and what the API server writes for itself do not count.

        Args:
            quiet: Seconds without a write.
            timeout: Seconds; the handle's default when omitted.

        Raises:
            WaitTimeoutError: Somebody goes on writing; the text says who and what.
            ClusterError: The cluster's etcd is out of reach.
        """
        state = self.cluster.state
        if state is None:
            raise ClusterError(
                f"{self.cluster.name}: settle needs to see every write, and its etcd "
                "is out of reach; clusters of kwok, envtest and kind have it"
            )
        seconds, started = self._seconds(timeout), time.monotonic()
        if (revision := state.settle(quiet, seconds)) is None:
            return
        versions = read(self.cluster, revision, Selection())[-5:]
        lines = [f"  {version}" for version in versions]
        elapsed = time.monotonic() - started
        raise WaitTimeoutError(
            f"the cluster did not settle within {elapsed:.1f} s"
            f"{self._cut_short(timeout)}: never {quiet} s without a write. Last:\n"
            + "\n".join(lines),
            last=None,
            elapsed=elapsed,
        )

    def _observe(
        self, ref: Ref, timeout: float | None, namespace: str | None
    ) -> Observation:
        resource, name, where = self._resolve(ref, namespace)
        target = Target(resource, where, name)
        return Observation(
            self._client, target, self._seconds(timeout), self.controllers
        )

    def _seconds(self, timeout: float | None) -> float:
        """Return how long a wait may take."""
        seconds = self.timeout if timeout is None else timeout
        if not seconds >= 0:
            raise ValueError(f"timeout={seconds}: expected seconds, 0 or more")
        if self.deadline is not None:
            seconds = max(0.0, min(seconds, self.deadline - time.monotonic()))
        return seconds

    def _cut_short(self, timeout: float | None) -> str:
        asked = self.timeout if timeout is None else timeout
        if self.deadline is None or time.monotonic() < self.deadline:
            return ""
        return f" instead of {asked:g}, for then pytest-timeout would end the test"

    def _explain(self, observation: Observation, wanted: Condition) -> Explanation:
        return Explanation(self.cluster, observation, wanted)


def _uid(ref: Ref) -> str | None:
    """Return which object is meant, where the ref is one that was read."""
    return ref.get("metadata", {}).get("uid") if isinstance(ref, Mapping) else None


def _holds(
    wanted: Condition, obj: dict[str, Any] | None, observation: Observation
) -> bool:
    __tracebackhide__ = True  # the error is one of the user's condition
    try:
        return wanted(obj)
    except Exception as e:
        what = "None, for there is no such object"
        if obj:
            what = "an object"
            if not observation.target.name:
                what = f"{obj['kind']} {obj['metadata']['name']}"
        e.add_note(
            f"The condition {wanted.name!r} raised this when asked about "
            f"{what}: {observation.target}. It is asked about every version, also one "
            "without a status, and about None while there is none."
        )
        raise


def _holds_of_nothing(wanted: Condition) -> bool:
    try:
        return wanted(None)
    except Exception:  # noqa: BLE001  # it is asked in earnest, and then it is raised
        return False


def _failure(obj: Mapping[str, Any]) -> tuple[Any, str]:
    return obj["metadata"].get("uid"), conditions.failure(obj)
