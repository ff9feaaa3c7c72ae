"""Release files over HTTP: checked, unpacked, with mirror, proxies and time limits."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import time
import zipfile
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import tenacity
import urllib3

from pytest_kube.binaries import releases
from pytest_kube.binaries.progress import UNFINISHED, Progress, megabytes
from pytest_kube.errors import BinaryError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

CONNECT_TIMEOUT = 5.0
STALL_TIMEOUT = 30.0
"""Seconds without a single byte after which a download is given up."""
ATTEMPTS = 3
RETRY_WAIT = 0.5
PROGRESS_INTERVAL = 10.0
CHUNK = 256 * 1024

_OK = 200
_NO_SUCH_FILE = (404, 410)
_SERVER_ERRORS = 500


class UnavailableError(Exception):
    """The release hosts cannot be reached or have no such file."""


class _TransientError(Exception):
    """Worth another attempt."""


class _TruncatedError(_TransientError):
    """The answer ends too early."""


@dataclass
class Downloader:
    """Downloads programs, and remembers the hosts that did not answer.

    Attributes:
        environ: Where ``PYTEST_KUBE_MIRROR`` is looked up.
        report: Gets a line of progress.
    """

    environ: Mapping[str, str]
    report: Callable[[str], None]
    _unreachable: dict[str, str] = field(default_factory=dict, init=False)

    def program(self, name: str, version: str, folder: Path) -> Path:
        """Download a program to *folder* and return its path there.

        Raises:
            UnavailableError: There is no such release file, or no way to its host.
            BinaryError: The file is broken, or its download stalled.
        """
        on = releases.this_platform()
        asset = releases.asset(name, version, on)
        if asset is None:
            raise UnavailableError(f"no release of {name} for {on}")
        job = _Job(name, f"{name} {version}", on)
        document = io.BytesIO()
        self._fetch(asset.checksums, document, job, quiet=True)
        try:
            expected = _checksum(asset, document.getvalue().decode())
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UnavailableError(
                f"{self._mirrored(asset.checksums)}: not what is published ({error!r})"
            ) from error
        if not expected:
            raise UnavailableError(
                f"{self._mirrored(asset.checksums)} has no checksum of "
                f"{asset.filename}: {job.label} does not exist, or not for {on}"
            )
        file = folder / asset.filename
        with file.open("wb") as body:
            self._fetch(asset.url, body, job)
        with file.open("rb") as body:
            got = hashlib.file_digest(body, asset.algorithm).hexdigest()
        if got != expected:
            file.unlink()
            raise BinaryError(
                f"{job.label}: wrong checksum, nothing was kept\n"
                f"  file      {self._mirrored(asset.url)}\n"
                f"  expected  {asset.algorithm} {expected}\n"
                f"  got       {asset.algorithm} {got}\n"
                f"  by        {self._mirrored(asset.checksums)}",
                name=name,
            )
        return _unpack(file, asset.member) if asset.member else file

    def probe(self, name: str, version: str, timeout: float) -> None:
        """Ask for the release file of a program, without downloading it.

        Raises:
            UnavailableError: There is no such release file, or no way to its host.
        """
        on = releases.this_platform()
        asset = releases.asset(name, version, on)
        if asset is None:
            raise UnavailableError(f"no release of {name} for {on}")
        url = self._mirrored(asset.url)
        try:
            answer = _pool(url).request(
                "HEAD", url, timeout=timeout, retries=urllib3.Retry(0, redirect=5)
            )
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(url, error) from error
        if answer.status != _OK:
            raise UnavailableError(f"{url}: HTTP status {answer.status}")

    def _fetch(
        self, url: str, body: IO[bytes], job: _Job, *, quiet: bool = False
    ) -> None:
        """Write the answer of *url* to *body*, in a few attempts."""
        url = self._mirrored(url)
        host = urlsplit(url).netloc
        if host in self._unreachable:
            raise UnavailableError(f"{url}: {self._unreachable[host]}")
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_exponential(multiplier=RETRY_WAIT),
            retry=tenacity.retry_if_exception_type(_TransientError),
            reraise=True,
        )
        try:
            attempts(self._attempt, url, body, job, quiet=quiet)
        except _TruncatedError as error:
            raise _broken(job, url, str(error)) from error
        except _TransientError as error:
            self._unreachable[host] = f"{error} ({ATTEMPTS} attempts)"
            raise UnavailableError(f"{url}: {self._unreachable[host]}") from error

    def _attempt(self, url: str, body: IO[bytes], job: _Job, *, quiet: bool) -> None:
        """Sort what can go wrong into another attempt, another way, and the end."""
        body.seek(0)
        body.truncate()
        started = time.monotonic()
        try:
            with closing(self._get(url)) as answer:
                self._read(answer, url, body, job, quiet=quiet)
        except urllib3.exceptions.ReadTimeoutError as error:
            elapsed = time.monotonic() - started
            raise _broken(
                job,
                url,
                f"no data for {STALL_TIMEOUT:g} s, after {body.tell()} bytes "
                f"in {elapsed:.1f} s",
            ) from error
        except urllib3.exceptions.ProtocolError as error:
            cause = error.__cause__
            if isinstance(cause, urllib3.exceptions.IncompleteRead):
                total = cause.partial + cause.expected
                raise _TruncatedError(
                    f"the answer ends early, after {cause.partial} of {total} bytes"
                ) from error
            raise _TransientError(f"the connection broke ({cause or error})") from error
        except urllib3.exceptions.HTTPError as error:
            unreachable = _unreachable(url, error)
            reason = str(unreachable).removeprefix(f"{url}: ")
            self._unreachable[urlsplit(url).netloc] = reason
            raise unreachable from error

    def _read(
        self,
        answer: urllib3.BaseHTTPResponse,
        url: str,
        body: IO[bytes],
        job: _Job,
        *,
        quiet: bool,
    ) -> None:
        if answer.status in _NO_SUCH_FILE:
            raise UnavailableError(
                f"{url}: HTTP status {answer.status}: "
                f"{job.label} does not exist, or not for {job.on}"
            )
        if answer.status >= _SERVER_ERRORS:
            raise _TransientError(f"HTTP status {answer.status}")
        if answer.status != _OK:
            raise UnavailableError(f"{url}: HTTP status {answer.status}")
        report = _silence if quiet else self.report
        report(f"downloading {job.label} from {url} {UNFINISHED}")
        progress = Progress(report, PROGRESS_INTERVAL)
        length = answer.headers.get("Content-Length")
        total = f" of {megabytes(int(length))}" if length else ""
        while chunk := answer.read1(CHUNK):
            body.write(chunk)
            progress.tick(f"{job.label}: {megabytes(body.tell())}{total}")
        report(f"{job.label}: {megabytes(body.tell())} in {progress.elapsed:.1f} s")

    def _get(self, url: str) -> urllib3.BaseHTTPResponse:
        return _pool(url).request(
            "GET",
            url,
            preload_content=False,
            decode_content=False,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=STALL_TIMEOUT),
            retries=urllib3.Retry(
                None, connect=False, read=False, other=False, status=0, redirect=5
            ),
        )

    def _mirrored(self, url: str) -> str:
        mirror = self.environ.get("PYTEST_KUBE_MIRROR", "").rstrip("/")
        if not mirror:
            return url
        if not mirror.startswith(("http://", "https://")):
            raise SettingsError(
                f"PYTEST_KUBE_MIRROR={mirror}: give a URL, such as https://mirror.example"
            )
        return f"{mirror}/{url.removeprefix('https://')}"


@dataclass(frozen=True)
class _Job:
    """What a download is for, as messages say it."""

    name: str
    label: str
    on: releases.Platform


def _unreachable(url: str, error: Exception) -> UnavailableError:
    reason = error.__cause__ or getattr(error, "reason", None) or error
    return UnavailableError(f"{url}: the host cannot be reached ({reason})")


def _pool(url: str) -> urllib3.PoolManager:
    """Return a pool that goes through the proxy that the environment names, if any."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if proxy is None or proxy_bypass(parts.netloc):
        return urllib3.PoolManager()
    auth = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=unquote(auth)) if auth else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers)


def _checksum(asset: releases.Asset, text: str) -> str:
    """Find the checksum of *asset* in the document that *text* is, or nothing."""
    name = asset.filename
    if asset.checksums.endswith(".yaml"):
        import yaml

        files = yaml.safe_load(text)["releases"].values()
        return next((str(r[name]["hash"]) for r in files if name in r), "")
    if asset.checksums.startswith("https://api.github.com/"):
        digests = {a["name"]: a.get("digest") for a in json.loads(text)["assets"]}
        return str(digests.get(name) or "").removeprefix("sha256:")
    for line in text.splitlines():
        digest, _, filename = line.partition(" ")
        # A checksum in a file of its own may come without the name.
        if filename.strip(" *") in ("", name):
            return digest
    return ""


def _unpack(archive: Path, member: str) -> Path:
    """Extract one file of an archive, wherever in it it is, and drop the archive."""
    target = archive.with_name(f"{member}.unpacked")
    with target.open("wb") as body:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as zipped:
                path = _path_of(member, zipped.namelist())
                with zipped.open(path) as source:
                    shutil.copyfileobj(source, body)
        else:
            with tarfile.open(archive) as tar:
                path = _path_of(member, tar.getnames())
                inside = tar.extractfile(path)
                assert inside is not None  # noqa: S101
                with inside:
                    shutil.copyfileobj(inside, body)
    archive.unlink()
    return target


def _path_of(member: str, paths: list[str]) -> str:
    return next(path for path in paths if path.rpartition("/")[2] == member)


def _silence(line: str) -> None:
    """Report nothing."""


def _broken(job: _Job, url: str, what: str) -> BinaryError:
    return BinaryError(
        f"{job.label}: {what}\n  file  {url}\n"
        "  try again, or set PYTEST_KUBE_MIRROR to a mirror that is nearer",
        name=job.name,
    )
