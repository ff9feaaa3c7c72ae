"""Controllers in the process of pytest: killed, paused, started again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Project

WIDGET = """\
def widget(name):
    return {"apiVersion": "example.com/v1", "kind": "Widget",
            "metadata": {"name": name}, "spec": {"size": 3}}
"""


def test_killed_kopf_operator_does_nothing_until_it_is_restarted(
    project: Project,
) -> None:
    """It ends in the middle, without an error, and later finds what came meanwhile."""
    project.write(
        "src/widget_operator.py",
        "import kopf, threading\n\n"
        "reached, go_on = threading.Event(), threading.Event()\n\n"
        "@kopf.on.create('widgets')\n"
        "@kopf.on.resume('widgets')\n"
        "def reconcile(name, spec, patch, **_):\n"
        "    if name == 'slow':\n"
        "        reached.set()\n"
        "        go_on.wait(30)\n"
        "    patch.status['size'] = spec['size']\n",
    )
    project.ini(
        'kube_crds = ["crds"]',
        'kube_controller = "kopf:widget_operator"',
        'pythonpath = ["src"]',
    )
    project.test(
        f"{WIDGET}\n"
        "import widget_operator\n"
        "def test_it(kube, kube_controller):\n"
        "    kube.apply(widget('quick'))\n"
        "    kube.wait_for('widget/quick', 'jsonpath={.status.size}=3')\n"
        "    kube.apply(widget('slow'))\n"
        "    assert widget_operator.reached.wait(10)\n"
        "    kube_controller.kill()\n"
        "    widget_operator.go_on.set()\n"
        "    kube.apply(widget('later'))\n"
        "    for name in ('slow', 'later'):\n"
        "        kube.consistently(f'widget/{name}', lambda w: not w.get('status'),\n"
        "                          seconds=0.5)\n"
        "    assert kube_controller.failure() is None\n"
        "    kube_controller.restart()\n"
        "    for name in ('slow', 'later'):\n"
        "        kube.wait_for(f'widget/{name}', 'jsonpath={.status.size}=3')\n"
        "    assert kube_controller.errors == []\n"
        "    assert set(kube_controller.reconciles()) == {'success'}\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


def test_nothing_a_killed_function_still_does_reaches_the_api(project: Project) -> None:
    """Nor when it was started again meanwhile, with the same kubeconfig file."""
    project.write(
        "src/plain.py",
        "import threading\n"
        "from kubernetes.client import CoreV1Api\n\n"
        "killed, refused = threading.Event(), []\n\n"
        "def run(client, namespace, stop):\n"
        "    def write(name):\n"
        "        body = {'metadata': {'name': name}}\n"
        "        CoreV1Api(client).create_namespaced_config_map(namespace, body)\n"
        "    if killed.is_set():\n"
        "        write('again')\n"
        "        stop.wait()\n"
        "        return\n"
        "    write('first')\n"
        "    killed.wait()\n"
        "    try:\n"
        "        write('never')\n"
        "    except Exception as e:\n"
        "        refused.append(str(e))\n",
    )
    project.ini('pythonpath = ["src"]')
    project.test(
        "import plain\n"
        "def test_it(kube, run_controller):\n"
        "    controller = run_controller('plain:run')\n"
        "    kube.wait_for('configmap/first', 'create')\n"
        "    controller.kill()\n"
        "    plain.killed.set()\n"
        "    controller.restart()\n"
        "    kube.wait_for('configmap/again', 'create')\n"
        "    assert kube.eventually(lambda: plain.refused)\n"
        "    assert 'Connection refused' in plain.refused[0]\n"
        "    assert kube.find('configmap/never') is None\n"
        "    controller.stop()\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("way", ["kube_controller.resume()", "kube_controller.stop()"])
def test_paused_operator_goes_on_or_is_stopped(project: Project, way: str) -> None:
    """While it is paused nothing that it asks gets through, and nothing is lost."""
    goes_on = "resume" in way
    project.test(
        f"{WIDGET}\n"
        "def test_it(kube, kube_controller):\n"
        "    kube_controller.pause()\n"
        "    kube.apply(widget('w'))\n"
        "    kube.consistently('widget/w', lambda w: not w.get('status'),\n"
        "                      seconds=0.5)\n"
        f"    {way}\n"
        f"    if {goes_on}:\n"
        "        kube.wait_for('widget/w', 'jsonpath={.status.size}=3')\n"
        "    assert kube_controller.errors == []\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=1)


CYCLES = """\
import asyncio, gc, logging, os, threading
import pytest

async def coroutine(ready):
    ready()
    await asyncio.Event().wait()

def function(stop):
    stop.wait()

class Thing:
    def start(self):
        pass
    def stop(self):
        pass

ROUNDS = 20
SHAPES = ["kopf:src/widget_operator.py", coroutine, function, Thing(),
          "exec:sleep 60"]
seen = []

def count():
    gc.collect()
    return {
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "handlers": len(logging.getLogger().handlers),
        "kopf": len(logging.getLogger("kopf.objects").handlers),
        "filters": len(logging.getLogger("kopf.objects").filters),
    }

@pytest.mark.parametrize("i", range(ROUNDS * len(SHAPES)))
def test_cycle(kube, run_controller, i):
    if i % len(SHAPES) == 0:
        seen.append(count())
    spec = SHAPES[i % len(SHAPES)]
    options = {"ready": "started"} if isinstance(spec, str) and "exec" in spec else {}
    kube.create({"apiVersion": "example.com/v1", "kind": "Widget",
                 "metadata": {"name": "w"}, "spec": {"size": 3}})
    run_controller(spec, **options).restart()

def test_nothing_is_left(kube):
    assert seen[2:] == seen[2:3] * (ROUNDS - 2)
"""


def test_controllers_of_all_shapes_come_and_go(project: Project) -> None:
    """And leave no thread, no open file, no log handler or filter."""
    project.test(CYCLES)

    result = project.run("--kube=envtest", "-W", "error")

    result.assert_outcomes(passed=101)
