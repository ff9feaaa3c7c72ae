from collections.abc import Callable

import pytest

from pytest_kube import APIError, Controller, Kube, field

SAMPLE = "config/samples/greeting.yaml"


@pytest.fixture(params=["greeter:run", "greeter_async:run"])
def greeter(
    request: pytest.FixtureRequest, run_controller: Callable[..., Controller]
) -> Controller:
    """The controller, in both of its forms."""
    return run_controller(request.param)


@pytest.mark.usefixtures("greeter")
def test_greets(kube: Kube) -> None:
    """A Greeting gets a ConfigMap of its own, and says what is in it."""
    [greeting] = kube.apply(SAMPLE)

    kube.wait_for(greeting, field("status.text", "Hello, World!"))

    config_map = kube.get("configmap/sample")
    assert config_map["data"] == {"text": "Hello, World!"}
    assert config_map["metadata"]["ownerReferences"][0]["uid"] == greeting.uid


@pytest.mark.usefixtures("greeter")
def test_follows_changes(kube: Kube) -> None:
    """A changed Greeting changes its ConfigMap."""
    kube.apply(SAMPLE)
    kube.wait_for("configmap/sample", field("data.text", "Hello, World!"))

    kube.patch("greeting/sample", {"spec": {"words": "Good morning"}})

    kube.wait_for("configmap/sample", field("data.text", "Good morning, World!"))


def test_greets_those_who_were_there_before(
    kube: Kube, run_controller: Callable[..., Controller]
) -> None:
    """What happened while no controller ran is not lost."""
    kube.apply(SAMPLE)

    run_controller("greeter:run")

    kube.wait_for("greeting/sample", field("status.observedGeneration", 1))


def test_wants_a_name(kube: Kube) -> None:
    """The CRD refuses a Greeting to nobody."""
    nobody = {
        "apiVersion": "example.com/v1",
        "kind": "Greeting",
        "metadata": {"name": "nobody"},
        "spec": {},
    }

    with pytest.raises(APIError, match=r"spec\.to: Required value"):
        kube.create(nobody)


def test_stops_when_nothing_happens(kube_controller: Controller) -> None:
    """An idle controller ends as soon as it is told to."""
    kube_controller.stop()

    assert kube_controller.exited.done()
    assert kube_controller.exited.exception() is None
