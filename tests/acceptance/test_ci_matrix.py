"""What users' CI jobs are made of: the action, GitLab's template, the nox helper.

Their shell steps are run by bash as the CI systems do; what only those have (caches,
uploads) is read.
"""

from __future__ import annotations

import os
import re
import shutil
import string
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_kube.binaries.store import programs_folder

if TYPE_CHECKING:
    from .conftest import Project

ROOT = Path(__file__).parents[2]
ACTION = (ROOT / "action.yml").read_text("utf-8")
STEPS: dict[str, dict[str, Any]] = {
    step["name"]: step for step in yaml.safe_load(ACTION)["runs"]["steps"]
}
INPUTS: dict[str, dict[str, str]] = yaml.safe_load(ACTION)["inputs"]
GITLAB = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text("utf-8"))[".pytest-kube"]
PAGE = (ROOT / "docs" / "ci.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

PASSES = "def test_it(kube, kube_version): assert kube_version == '1.36'\n"
FAILS = "def test_it(kube): assert False, 'as it should'\n"
# The time is up when the test runs, however slow the machine is: an alarm is what ends
# the wait of timeout, which leads the group.
HANGS = """\
import os, signal
def test_it(kube):
    os.kill(os.getpgrp(), signal.SIGALRM)
    kube.wait_for("configmap/never", "create", timeout=100)
"""
FOLDER = ".pytest-kube/artifacts/test_widgets.py.test_it"


def block(kind: str, start: str) -> str:
    (found,) = [t for k, t in BLOCKS if k == kind and t.startswith(start)]
    return found


def environment(**further: str) -> dict[str, str]:
    """Return an environment where the programs of this one are on PATH, and no CI is."""
    known = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GITHUB_", "GITLAB_", "CI_", "PYTEST_KUBE_VERSION"))
    }
    folder = Path(sys.executable).parent
    return {**known, "PATH": f"{folder}:{os.environ['PATH']}", **further}


class Job:
    """A job of GitHub that uses the action: its inputs, and what steps have told."""

    def __init__(self, project: Project, **inputs: str) -> None:
        self.project = project
        self.values = {
            "github.job": "tests",
            "strategy.job-index": "0",
            **{f"inputs.{name}": str(i["default"]) for name, i in INPUTS.items()},
            **{f"inputs.{name.replace('_', '-')}": v for name, v in inputs.items()},
        }

    def value(self, text: str) -> str:
        """Replace expressions, of which there are the simplest only."""
        return re.sub(
            r"\$\{\{ ([\w.-]+) \}\}", lambda found: self.values[found[1]], text
        )

    def start(self, name: str, **env: str) -> subprocess.Popen[str]:
        """Start the shell of a step, as the runner of GitHub does."""
        step = STEPS[name]
        script = self.project.write("_temp/step.sh", step["run"])
        (script.parent / "output").write_text("")
        return subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.project.path / self.value(step["working-directory"]),
            env=environment(
                GITHUB_ACTIONS="true",
                GITHUB_WORKSPACE=str(self.project.path),
                GITHUB_OUTPUT=str(script.parent / "output"),
                GITHUB_STEP_SUMMARY=str(script.parent / "summary.md"),
                RUNNER_TEMP=str(script.parent),
                **{key: self.value(text) for key, text in step["env"].items()},
                **env,
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, name: str, **env: str) -> tuple[int, str]:
        """Run a step to its end; return its exit code and what it printed."""
        process = self.start(name, **env)
        return self.end(name, process)

    def end(self, name: str, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for a step; keep its outputs for those after it."""
        output, _ = process.communicate(timeout=100)
        told = (self.project.path / "_temp/output").read_text().splitlines()
        for key, _, value in (line.partition("=") for line in told):
            self.values[f"steps.{STEPS[name].get('id')}.outputs.{key}"] = value
        return process.returncode, output

    def uploaded(self) -> Path:
        """Return the folder that the upload names."""
        return Path(self.value(STEPS["Upload the artifacts"]["with"]["path"]))


@pytest.fixture
def user(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A user's project, without a controller."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:cacheprovider")
    for name in ("PYTEST_KUBE_VERSION", "PYTEST_KUBE_ARTIFACTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    project.ini("console_output_style = 'classic'")
    return project


# --- GitHub ---------------------------------------------------------------------


def test_no_expression_stands_in_a_script() -> None:
    """What an input says is data for the shell, never a part of it."""
    scripts = [step["run"] for step in STEPS.values() if "run" in step]

    assert len(scripts) == 3
    assert not [text for text in scripts if "${{" in text]


def test_every_input_is_declared_and_used() -> None:
    """GitHub replaces what does not exist by nothing, without a word."""
    used = set(re.findall(r"\binputs\.([\w-]+)", ACTION))

    assert used == INPUTS.keys()
    assert all(i["description"] and "default" in i for i in INPUTS.values())


def test_every_output_that_is_used_is_written() -> None:
    """The same holds for outputs of steps."""
    used = set(re.findall(r"\bsteps\.names\.outputs\.(\w+)", ACTION))
    script = STEPS["Name programs and artifacts"]["run"]

    assert used == set(re.findall(r'echo "(\w+)=', script))


def test_actions_of_others_are_pinned() -> None:
    """By commit, with its version beside it."""
    lines = [line for line in ACTION.splitlines() if " uses: " in line]

    assert len(lines) == 3
    assert all(re.search(r"@[0-9a-f]{40} # v[\d.]+$", line) for line in lines)


def test_artifacts_are_uploaded_however_the_tests_ended() -> None:
    """Also those of a folder with a dot, and none are no failure."""
    upload = STEPS["Upload the artifacts"]

    assert list(STEPS)[-1] == upload["name"]
    assert upload["if"].startswith("always() && ")
    assert upload["with"]["include-hidden-files"] is True
    assert upload["with"]["if-no-files-found"] == "ignore"


def test_programs_are_cached_before_the_tests() -> None:
    """Tests that fail are no reason to build everything again."""
    names = list(STEPS)
    restore, save = STEPS["Restore the programs"], STEPS["Cache the programs"]

    assert names.index(save["name"]) < names.index("Run the tests")
    assert save["with"] == restore["with"]
    assert save["if"] == "steps.cache.outputs.cache-hit != 'true'"


def test_first_step_names_cache_and_artifacts(user: Project) -> None:
    """As the command does; the name of an artifact has no character it must not."""
    job = Job(user, kube="envtest", kube_version="1.34,1.36")

    code, output = job.run("Name programs and artifacts")

    assert (code, output) == (0, "")
    key = job.value(STEPS["Restore the programs"]["with"]["key"])
    assert re.fullmatch(r"pytest-kube-\w+-\w+-1\.34\.4-1\.36\.3-[0-9a-f]{12}", key)
    cached = job.value(STEPS["Restore the programs"]["with"]["path"])
    assert cached == str(programs_folder(os.environ))
    name = job.value(STEPS["Upload the artifacts"]["with"]["name"])
    assert name == "pytest-kube-tests-0-envtest-1.34,1.36"
    assert job.uploaded() == user.path / ".pytest-kube/artifacts"


def test_names_and_folders_of_the_user(user: Project) -> None:
    """An artifact called otherwise, and a folder for it from the environment."""
    job = Job(user, artifacts_name="mine: 1/2")

    job.run("Name programs and artifacts", PYTEST_KUBE_ARTIFACTS_DIR="out/kube")

    assert job.uploaded() == user.path / "out/kube"
    assert job.value("${{ steps.names.outputs.name }}") == "mine--1-2"


def test_without_pytest_kube_the_action_says_what_to_do(user: Project) -> None:
    """Installing it is what the user's own steps do."""
    code, output = Job(user).run("Name programs and artifacts", PATH="/usr/bin:/bin")

    assert code == 1
    assert output == (
        "::error::pytest-kube is not on PATH; install it in a step before this\n"
    )


def test_shell_in_an_input_is_not_run(user: Project) -> None:
    """It is the name of a profile that does not exist."""
    job = Job(user, kube='kwok"; touch owned; $(touch owned)')

    code, output = job.run("Name programs and artifacts")

    assert code == 1
    assert 'pytest-kube: --kube=kwok"; touch owned; $(touch owned): no such' in output
    assert not (user.path / "owned").exists()


def test_action_runs_the_tests(user: Project) -> None:
    """On the cluster and the version of its inputs, with programs that are there."""
    user.test(PASSES)
    job = Job(user, kube_version="1.36")

    names, _ = job.run("Name programs and artifacts")
    install, programs = job.run("Install the programs", PYTEST_KUBE_OFFLINE="1")
    tests, output = job.run("Run the tests")

    assert (names, install, tests) == (0, 0, 0), output
    assert [line.split()[0] for line in programs.splitlines()] == [
        *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
        "kwok",
    ]
    assert "kube: kwok cluster, Kubernetes v1.36.3" in output
    assert "1 passed" in output
    assert not job.uploaded().exists()


def test_without_a_version_that_of_the_profile_is_used(user: Project) -> None:
    """The input is not given, rather than given as nothing."""
    user.write("sub/clusters/mine.yaml", 'provider: envtest\nversion: "1.34"\n')
    job = Job(user, kube="mine", working_directory="sub", run="pwd && env")

    job.run("Name programs and artifacts")
    code, output = job.run("Run the tests")

    assert code == 0
    lines = output.splitlines()
    assert lines[0] == str(user.path / "sub")
    assert "PYTEST_KUBE=mine" in lines
    assert "PYTEST_KUBE_VERSION" not in output
    assert "-1.34.4-" in job.value("${{ steps.names.outputs.key }}")
    assert job.uploaded() == user.path / "sub/.pytest-kube/artifacts"


def test_tests_that_fail_fail_the_step_and_leave_artifacts(user: Project) -> None:
    """Where the upload looks for them; further commands are not run."""
    user.test(FAILS)
    job = Job(user, kube="envtest", run="pytest\ntouch afterwards\n")

    job.run("Name programs and artifacts")
    code, output = job.run("Run the tests")

    assert code == 1, output
    assert (job.uploaded() / "index.md").exists()
    assert (job.uploaded() / "test_widgets.py.test_it" / "report.html").exists()
    assert not (user.path / "afterwards").exists()
    assert "as it should" in (user.path / "_temp/summary.md").read_text("utf-8")


def test_tests_that_hang_are_interrupted_and_leave_artifacts(user: Project) -> None:
    """Before the job's own end, which would leave nothing."""
    user.test(HANGS)
    job = Job(user, kube="envtest")

    job.run("Name programs and artifacts")
    code, output = job.run("Run the tests")

    assert code == 124, output
    assert "timeout: sending signal INT to command" in output
    assert "KeyboardInterrupt" in output
    assert (job.uploaded() / "test_widgets.py.test_it" / "summary.md").exists()


def test_time_of_the_action_is_in_minutes(user: Project) -> None:
    """And whatever runs is interrupted, not only pytest."""
    job = Job(user, timeout_minutes="0.02", run="tail -f /dev/null")

    job.run("Name programs and artifacts")
    code, output = job.run("Run the tests")

    assert code == 124
    assert output.startswith("timeout: sending signal INT to command")


def test_job_that_is_cancelled_leaves_artifacts(user: Project) -> None:
    """GitHub interrupts the process that it started, and that one only."""
    user.test(
        "import os, signal\n"
        "def test_it(kube):\n"
        "    first = os.getpgrp()\n"
        "    open('first', 'w').write(str(first))\n"
        "    os.kill(first, signal.SIGINT)\n"
        "    kube.wait_for('configmap/never', 'create', timeout=100)\n"
    )
    job = Job(user, kube="envtest")
    job.run("Name programs and artifacts")

    process = job.start("Run the tests")
    code, output = job.end("Run the tests", process)

    assert (user.path / "first").read_text() == str(process.pid)
    assert code == 2, output
    assert "KeyboardInterrupt" in output
    assert (job.uploaded() / "test_widgets.py.test_it" / "summary.md").exists()


# --- GitLab ---------------------------------------------------------------------


class GitLab:
    """A job of GitLab that extends the template."""

    def __init__(self, project: Project, **variables: str) -> None:
        self.path = project.path
        known = {"CI_PROJECT_DIR": str(self.path), "GITLAB_CI": "true"}
        self.variables = {
            **known,
            **{
                name: string.Template(str(text)).substitute(known)
                for name, text in GITLAB["variables"].items()
            },
            **variables,
        }
        # What a cache that was found has left in the project.
        (cached,) = GITLAB["cache"]["paths"]
        (self.path / cached).parent.mkdir(parents=True)
        (self.path / cached).symlink_to(programs_folder(os.environ).parent)

    def run(self) -> tuple[int, str]:
        """Run the script, as the runner of GitLab does."""
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", "\n".join(GITLAB["script"])],
            cwd=self.path,
            env=environment(**self.variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        return done.returncode, done.stdout


def test_gitlab_keeps_artifacts_and_programs_however_the_job_ends() -> None:
    """Within the project, where alone GitLab looks, and nothing else of the cache."""
    variables, artifacts = GITLAB["variables"], GITLAB["artifacts"]

    assert artifacts["when"] == GITLAB["cache"]["when"] == "always"
    folders = {
        f"$CI_PROJECT_DIR/{path}"
        for path in [*artifacts["paths"], *GITLAB["cache"]["paths"]]
    }
    assert folders == {
        variables["PYTEST_KUBE_ARTIFACTS_DIR"],
        variables["PYTEST_KUBE_CACHE"] + "/bin",
    }
    report = f"$CI_PROJECT_DIR/{artifacts['reports']['junit']}"
    assert variables["PYTEST_ADDOPTS"] == f"--junitxml={report}"


def test_gitlab_has_time_left_for_the_upload() -> None:
    """The tests end before the script, the script before the job."""
    times = [
        GITLAB["variables"]["TEST_MINUTES"],
        GITLAB["variables"]["RUNNER_SCRIPT_TIMEOUT"].removesuffix("m"),
        GITLAB["timeout"].removesuffix("m"),
    ]

    assert times == ["30", "45", "50"]


def test_gitlab_key_has_no_character_that_it_must_not_have() -> None:
    """It is known before the job begins: the version as it was asked for."""
    key = string.Template(GITLAB["cache"]["key"])
    values = {"PYTEST_KUBE": "kwok", "PYTEST_KUBE_VERSION": "1.34,1.36"}

    assert key.substitute(values) == "pytest-kube-kwok-1.34,1.36"


def test_gitlab_runs_the_tests(user: Project) -> None:
    """With the version of the matrix; the report is where GitLab looks for it."""
    user.test(PASSES)

    code, output = GitLab(user, PYTEST_KUBE_VERSION="1.36").run()

    assert code == 0, output
    assert f"{user.path}/.pytest-kube/cache/bin/" in output
    assert "kube: kwok cluster, Kubernetes v1.36.3" in output
    assert "1 passed" in output
    assert (user.path / GITLAB["artifacts"]["reports"]["junit"]).exists()


def test_gitlab_has_artifacts_of_tests_that_fail(user: Project) -> None:
    """In the folder, and as attachments in the report."""
    user.test(FAILS)

    code, output = GitLab(user, PYTEST_KUBE="envtest").run()

    assert code == 1, output
    assert (user.path / FOLDER / "report.html").exists()
    report = user.path / GITLAB["artifacts"]["reports"]["junit"]
    assert f"[[ATTACHMENT|{FOLDER}/report.html]]" in report.read_text("utf-8")


def test_gitlab_has_artifacts_of_tests_that_hang(user: Project) -> None:
    """And the report, although pytest was interrupted."""
    user.test(HANGS)

    code, output = GitLab(user, PYTEST_KUBE="envtest").run()

    assert code == 124, output
    assert (user.path / FOLDER / "summary.md").exists()
    assert (user.path / GITLAB["artifacts"]["reports"]["junit"]).exists()


# --- nox ------------------------------------------------------------------------


def nox(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nox", "--no-venv", "--no-install", *arguments],
        cwd=project.path,
        env=environment(NOX_SCRIPT_MODE="none"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_nox_runs_the_session_of_one_version(user: Project) -> None:
    """As the page says; pytest has the version without a word in its command."""
    user.write("noxfile.py", block("python", "# /// script\n"))
    user.test(PASSES)

    done = nox(user, "-s", 'tests(kube="1.36")')

    assert done.returncode == 0, done.stdout + done.stderr
    assert "kube: kwok cluster, Kubernetes v1.36.3" in done.stdout
    assert "1 passed" in done.stdout


def test_nox_lists_a_session_for_each_version(user: Project) -> None:
    """Without any, the newest minor and three before it; others multiply."""
    user.write(
        "noxfile.py",
        "import nox\n"
        "from pytest_kube.nox import kube_versions\n"
        "@nox.session\n"
        "@kube_versions()\n"
        "def newest(session, kube): pass\n"
        "@nox.session\n"
        "@kube_versions('1.36')\n"
        "@nox.parametrize('kopf', ['1.44', '1.45'])\n"
        "def both(session, kube, kopf):\n"
        '    """With each kopf."""\n'
        "    session.run('env')\n",
    )

    listed = nox(user, "-l").stdout
    run = nox(user, "-s", "both", "--", "-x")

    assert re.findall(r"^\* (\w+\(.*?\)(?: -> .*)?)$", listed, re.MULTILINE) == [
        *(f"newest(kube='{v}')" for v in ("1.34", "1.35", "1.36", "1.37")),
        "both(kopf='1.44', kube='1.36') -> With each kopf.",
        "both(kopf='1.45', kube='1.36') -> With each kopf.",
    ]
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("PYTEST_KUBE_VERSION=1.36\n") == 2


# --- the page -------------------------------------------------------------------


def test_matrices_of_the_page_have_ten_lines() -> None:
    """As its title promises, and they are YAML."""
    for start in ("on: push", "include:"):
        text = block("yaml", start)

        assert len(text.splitlines()) <= 10
        assert yaml.safe_load(text)


def test_page_gives_the_action_inputs_that_it_has() -> None:
    """In all its examples."""
    given = [
        step["with"]
        for kind, text in BLOCKS
        if kind == "yaml"
        for step in steps_of(yaml.safe_load(text))
        if "/pytest-kube@" in step.get("uses", "")
    ]

    assert given
    assert all(inputs.keys() <= INPUTS.keys() for inputs in given)


def steps_of(document: Any) -> list[dict[str, Any]]:
    """Return the steps of an example: of a workflow, or a list of them."""
    if isinstance(document, list):
        return document
    jobs = document.get("jobs", {})
    return [step for job in jobs.values() for step in job["steps"]]


def test_page_extends_the_job_of_the_template() -> None:
    """By its name, and sets variables that it or pytest-kube reads."""
    job = yaml.safe_load(block("yaml", "include:"))["tests"]

    assert job["extends"] == ".pytest-kube"
    assert job.keys() <= {"extends", "image", "before_script", "parallel"}
    assert shutil.which("timeout"), "GNU coreutils, as the images of Python have them"
