"""Programs built from their published Go modules, once per machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kube.binaries import releases
from pytest_kube.binaries.progress import UNFINISHED, Progress
from pytest_kube.system.processes import tail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DEADLINE = 1800.0
HEARTBEAT = 20.0


class BuildError(Exception):
    """A build failed.

    Attributes:
        output: The last lines of what Go wrote.
        no_such_version: It is because there is no such version.
    """

    def __init__(
        self, text: str, *, output: str = "", no_such_version: bool = False
    ) -> None:
        super().__init__(text)
        self.output = output
        self.no_such_version = no_such_version


@dataclass
class Builder:
    """Builds programs of one Go module in a folder of their own.

    A command of another module that has replacements, as those of Kubernetes and etcd,
    cannot be installed by its name. It can be built as a dependency of a module that
    repeats these replacements, with the published versions instead of folders.

    Attributes:
        go: The program ``go``.
        folder: A folder for the generated module, the log and the programs.
        environ: The environment of ``go``.
        report: Gets a line of progress.
    """

    go: str
    folder: Path
    environ: Mapping[str, str]
    report: Callable[[str], None]

    @property
    def log(self) -> Path:
        """What Go wrote."""
        return self.folder / "go.log"

    def programs(self, names: Sequence[str], version: str) -> dict[str, Path]:
        """Build programs of one module and return their paths.

        Raises:
            BuildError: There is no such version, or Go failed, or it took too long.
        """
        recipes = [releases.RECIPES[name] for name in names]
        label = f"{', '.join(names)} {version}"
        minutes = sum(recipe.minutes for recipe in recipes)
        self.report(
            f"building {label} from {'its' if len(names) == 1 else 'their'} Go module "
            f"(once per machine, about {minutes} minute{'s' * (minutes > 1)}) "
            f"{UNFINISHED}"
        )
        progress = Progress(self.report, HEARTBEAT)
        line = f"building {label}"
        self._generate(recipes[0].module, version, progress, line)
        target = self.folder / "programs"
        target.mkdir()
        # A command is named after its package, which is wrong for one alone: etcd's.
        output = f"{target}{os.sep}" if len(names) > 1 else str(target / names[0])
        self._go(
            [
                *("build", "-mod=mod", "-trimpath"),
                *("-ldflags", _linker_flags(version), "-o", output),
                *(recipe.package for recipe in recipes),
            ],
            progress,
            line,
        )
        self.report(f"built {label} in {progress.elapsed:.0f} s")
        return {name: target / name for name in names}

    def _generate(
        self, module: str, version: str, progress: Progress, line: str
    ) -> None:
        """Write the ``go.mod`` that requires *module* as it was published."""
        answer = self.folder / "module.json"
        download = ["mod", "download", "-json", f"{module}@v{version}"]
        try:
            self._go(download, progress, line, stdout=answer)
        except BuildError as error:
            reason = _reason(answer) or error.output
            published = self._published(module, progress, line)
            if published and f"v{version}" not in published:
                raise BuildError(
                    f"there is no version v{version} of the Go module {module}",
                    output=reason,
                    no_such_version=True,
                ) from error
            raise BuildError(str(error), output=reason) from error
        go_mod = Path(json.loads(answer.read_text(encoding="utf-8"))["GoMod"])
        theirs = go_mod.read_text(encoding="utf-8")
        lines = [
            "module pytest-kube.invalid/build",
            *re.findall(r"^go .*$", theirs, re.MULTILINE),
            f"require {module} v{version}",
        ]
        # A staging module has the version of its Kubernetes, with 0 for 1.
        lines += [
            f"replace {name} => {name} v0.{version.partition('.')[2]}"
            for name in re.findall(r"(\S+) => \./staging/", theirs)
        ]
        text = "\n".join(lines) + "\n"
        (self.folder / "go.mod").write_text(text, encoding="utf-8")

    def _published(self, module: str, progress: Progress, line: str) -> list[str]:
        """Return the versions of *module*; none when nobody can tell."""
        answer = self.folder / "versions"
        try:
            self._go(["list", "-m", "-versions", module], progress, line, stdout=answer)
        except BuildError:
            return []
        return answer.read_text(encoding="utf-8").split()[1:]

    def _go(
        self,
        arguments: Sequence[str],
        progress: Progress,
        line: str,
        *,
        stdout: Path | None = None,
    ) -> None:
        """Run ``go`` until it ends; whatever else happens, it does not live on."""
        on = releases.this_platform()
        flags = f"{self.environ.get('GOFLAGS', '')} -buildvcs=false".strip()
        environ = {
            **self.environ,
            "CGO_ENABLED": "0",
            "GOFLAGS": flags,
            "GOWORK": "off",
            "GOOS": on.os,
            "GOARCH": on.arch,
        }
        with ExitStack() as files:
            log = files.enter_context(self.log.open("ab"))
            process = subprocess.Popen(
                [self.go, *arguments],
                cwd=self.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=files.enter_context(stdout.open("wb")) if stdout else log,
                stderr=log,
                start_new_session=True,
            )
            try:
                while not _ended(process, progress.interval):
                    progress.tick(line)
                    if progress.elapsed > DEADLINE:
                        raise BuildError(
                            f"go {arguments[0]} did not end within {DEADLINE:g} s",
                            output=tail(self.log, 15),
                        )
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if process.returncode:
            raise BuildError(
                f"go {arguments[0]} failed with exit code {process.returncode}",
                output=tail(self.log, 15),
            )


def _ended(process: subprocess.Popen[bytes], timeout: float) -> bool:
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    return True


def _reason(answer: Path) -> str:
    """Return the error in what ``go mod download -json`` wrote, if there is one."""
    try:
        return str(json.loads(answer.read_text(encoding="utf-8")).get("Error", ""))
    except ValueError:
        return ""


def _linker_flags(version: str) -> str:
    """Return the flags that leave debug data out and say the Kubernetes version."""
    major, minor, _ = version.split(".")
    package = "k8s.io/component-base/version"
    values = {
        f"{package}.gitVersion": f"v{version}",
        f"{package}.gitMajor": major,
        f"{package}.gitMinor": minor,
        f"{package}.gitTreeState": "clean",
        "k8s.io/client-go/pkg/version.gitVersion": f"v{version}",
    }
    return " ".join(
        ["-s -w", *(f"-X {name}={value}" for name, value in values.items())]
    )
