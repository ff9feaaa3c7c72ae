"""What a controller does to the process of pytest: undone, told, survived."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Project

BAD = """\
import asyncio, logging, os, signal, sys, threading, time

reached, go_on = threading.Event(), threading.Event()

async def blocks_its_loop():
    time.sleep(1.3)
    reached.set()
    await asyncio.Event().wait()

async def leaves_a_task(stop):
    async def forgotten():
        await asyncio.Event().wait()
    asyncio.create_task(forgotten())
    await stop.wait()

def leaves_a_thread(stop):
    threading.Thread(target=go_on.wait, name="forgotten", daemon=True).start()
    stop.wait()

def moves(stop):
    os.chdir("/")
    reached.set()
    stop.wait()

def makes_itself_at_home(stop):
    os.environ["LEFT"] = "behind"
    os.environ.pop("TAKEN")
    sys.path.append("left behind")
    sys.stdout = own = open(os.devnull, "w")
    logging.getLogger().setLevel(logging.CRITICAL)
    logging.getLogger().addHandler(logging.NullHandler())
    reached.set()
    stop.wait()
    own.close()

def wants_signals(stop):
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

async def swallows_cancellation():
    reached.set()
    while not go_on.is_set():
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            pass

def leaves(stop):
    os._exit(3)

async def leaves_by_a_thread():
    await asyncio.to_thread(os._exit, 3)

async def exits():
    sys.exit(4)
"""


@pytest.fixture
def bad(project: Project) -> Project:
    """A project with controllers that do not behave."""
    project.write("src/bad.py", BAD)
    project.ini('pythonpath = ["src"]')
    return project


def test_what_is_left_behind_is_told(bad: Project) -> None:
    """By the name of the controller, and where: a task, a thread, a blocked loop."""
    bad.test(
        "import os\n"
        "import bad\n"
        "def test_blocked(kube, run_controller):\n"
        "    run_controller('bad:blocks_its_loop')\n"
        "    assert bad.reached.wait(10)\n"
        "def test_task(kube, run_controller):\n"
        "    run_controller('bad:leaves_a_task')\n"
        "def test_thread(kube, run_controller):\n"
        "    run_controller('bad:leaves_a_thread')\n"
        "def test_release():\n"
        "    bad.go_on.set()\n"
        "def test_folder(kube, run_controller):\n"
        "    bad.reached.clear()\n"
        "    run_controller('bad:moves')\n"
        "    assert bad.reached.wait(10)\n"
        "def test_folder_is_the_old_one():\n"
        f"    assert os.getcwd() == {str(bad.path)!r}\n"
    )

    result = bad.run("--kube=envtest")

    result.assert_outcomes(passed=6, warnings=4)
    result.stdout.fnmatch_lines(
        [
            "*KubeWarning: controller blocks_its_loop (controller-1) has blocked its "
            "event loop for 1 s or longer, in:",
            "*bad.py*in blocks_its_loop",
            "*time.sleep(1.3)",
            "*KubeWarning: controller leaves_a_task (controller-1) left a task behind:",
            "*forgotten*",
            "*KubeWarning: controller leaves_a_thread (controller-1) left a thread "
            "behind, forgotten, in:",
            "*KubeWarning: controller moves (controller-1) changed the working "
            "directory, to /",
        ]
    )


def test_process_is_afterwards_what_it_was(bad: Project) -> None:
    """Environment, import path, streams and logging are put back without a word."""
    bad.test(
        "import logging, os, sys\n"
        "import bad\n"
        "os.environ['TAKEN'] = 'x'\n"
        "def state():\n"
        "    root = logging.getLogger()\n"
        "    ours = [h for h in root.handlers if '_pytest' not in type(h).__module__]\n"
        "    return (dict(os.environ), list(sys.path), root.level, ours)\n"
        "before = {}\n"
        "def test_before():\n"
        "    before['state'] = state()[1:]\n"
        "def test_it(kube, run_controller):\n"
        "    run_controller('bad:makes_itself_at_home')\n"
        "    assert bad.reached.wait(10)\n"
        "    assert os.environ['LEFT']\n"
        "def test_after():\n"
        "    assert state()[1:] == before['state']\n"
        "    assert os.environ.get('LEFT') is None and os.environ['TAKEN'] == 'x'\n"
        "    assert sys.stdout.name != os.devnull\n"
    )

    result = bad.run("--kube=envtest")

    result.assert_outcomes(passed=3)


def test_handlers_of_signals_are_kept(bad: Project) -> None:
    """Those that an import replaces; what runs in a thread cannot replace any."""
    bad.write(
        "src/greedy.py",
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "def run(stop):\n"
        "    stop.wait()\n",
    )
    bad.test(
        "import signal\n"
        "def test_import(run_controller):\n"
        "    run_controller('greedy:run')\n"
        "    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "def test_thread(kube, run_controller):\n"
        "    run_controller('bad:wants_signals')\n"
        "    kube.wait_for('configmap/none', 'create')\n"
    )

    result = bad.run("--kube=envtest", "-rA")

    result.assert_outcomes(passed=1, failed=1, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "*controller wants_signals ended while the test needed it: ValueError: "
            "signal only works in main thread of the main interpreter",
            "*  It runs in a thread of pytest's process, where handlers of signals "
            "cannot be set; set them in the program's main(), around what is tested",
            "*KubeWarning: controller run (controller-1) replaced the handler of "
            "SIGINT*",
        ]
    )


def test_controller_that_swallows_its_cancellation_is_told(bad: Project) -> None:
    """With the task that does; the tests to come are not disturbed by it."""
    bad.test(
        "import bad\n"
        "def test_it(run_controller):\n"
        "    run_controller('bad:swallows_cancellation')\n"
        "    assert bad.reached.wait(10)\n"
        "def test_next(kube):\n"
        "    bad.go_on.set()\n"
        "    kube.create({'apiVersion': 'v1', 'kind': 'ConfigMap',\n"
        "                 'metadata': {'name': 'c'}})\n"
    )

    result = bad.run("--kube=envtest")

    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*controller swallows_cancellation did not stop within 5 s; it is cut off "
            "from the cluster, but its thread goes on. It hangs in:",
            "*bad.py*in swallows_cancellation*",
            "*await asyncio.sleep(0.05)*",
        ]
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("bad:leaves", "controller leaves ended*: SystemExit: os._exit(3)"),
        (
            "bad:leaves_by_a_thread",
            "controller leaves_by_a_thread ended*: SystemExit: os._exit(3)",
        ),
        ("bad:exits", "controller exits ended while the test needed it: SystemExit: 4"),
    ],
)
def test_controller_that_exits_ends_nobody_else(
    bad: Project, spec: str, expected: str
) -> None:
    """Neither pytest nor the tests to come."""
    bad.test(
        "def test_it(kube, run_controller):\n"
        f"    run_controller({spec!r})\n"
        "    kube.wait_for('configmap/none', 'create')\n"
        "def test_next(kube):\n"
        "    pass\n"
    )

    result = bad.run("--kube=envtest")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"*{expected}"])


ORPHANS = """\
import kopf
from kubernetes import client, config

@kopf.on.create("widgets")
def create(name, namespace, body, **_):
    config.load_kube_config()
    owned = {"metadata": {"name": f"{name}-owned"}}
    kopf.append_owner_reference(owned, owner=body)
    for config_map in (owned, {"metadata": {"name": f"{name}-forgotten"}}):
        client.CoreV1Api().create_namespaced_config_map(namespace, config_map)

@kopf.timer("widgets", interval=0.1, labels={"restless": "yes"})
def tick(patch, retry, meta, **_):
    patch.status["ticks"] = int(meta["resourceVersion"])
"""


def test_what_outlives_its_custom_resource_is_told(project: Project) -> None:
    """If it has no owner, and no other custom resource may need it."""
    project.write("src/widget_operator.py", ORPHANS)
    project.test(
        "def widget(name, **labels):\n"
        "    return {'apiVersion': 'example.com/v1', 'kind': 'Widget',\n"
        "            'metadata': {'name': name, 'labels': labels}, 'spec': {}}\n"
        "def test_gone(kube, kube_controller):\n"
        "    kube.apply(widget('w'))\n"
        "    kube.wait_for('configmap/w-forgotten', 'create')\n"
        "    kube.delete('widget/w')\n"
        "def test_needed(kube, kube_controller):\n"
        "    kube.apply(widget('other'))\n"
        "    kube.apply(widget('w'))\n"
        "    kube.wait_for('configmap/other-forgotten', 'create')\n"
        "    kube.wait_for('configmap/w-forgotten', 'create')\n"
        "    kube.delete('widget/w')\n"
        "def test_restless(kube, kube_controller):\n"
        "    kube.apply(widget('w', restless='yes'))\n"
        "    kube.wait_for('configmap/w-forgotten', 'create')\n"
        "    kube.wait_for('widget/w', lambda w: len([\n"
        "        v for v in kube.history('widget/w')]) > 25, timeout=20)\n"
    )

    result = project.run("--kube=envtest")

    result.assert_outcomes(passed=3, warnings=2)
    result.stdout.fnmatch_lines(
        [
            "*KubeWarning: controller kopf:src/widget_operator.py (controller-1) left "
            "ConfigMap test-gone-*/w-forgotten behind, when Widget test-gone-*/w was "
            "gone: it has no owner. Set its ownerReferences, or delete it before you "
            "remove the finalizer",
            "*KubeWarning: controller kopf:src/widget_operator.py (controller-1) went "
            "on writing while nobody else did: patch widgets/status "
            "test-restless-*/w, * times in * s",
        ]
    )
