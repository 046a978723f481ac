"""Getting packages: their versions, their .deb files (without installing them), and the files inside."""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path


class Unavailable(Exception):
    """Packages cannot be had; the text says why and what to do."""


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    architecture: str
    filename: str  # place in the archive
    size: int
    sha256: str
    source: str
    homepage: str

    @property
    def deb(self) -> str:
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


class Archive:
    """The Debian archive as apt is set up to see it, with a folder that keeps the .deb files."""

    def __init__(self, cache: Path):
        self.cache = cache
        self.options: list[str] = []
        if os.geteuid() == 0:  # apt's own user could not write to our folder, and warns about it
            self.options = ["-o", "APT::Sandbox::User=root"]

    def candidates(self, names: list[str]) -> dict[str, Package]:
        """What apt would install now, for the names that it knows."""
        try:
            done = subprocess.run(
                ["apt-cache", *self.options, "show", "--no-all-versions", *names],
                capture_output=True,
                text=True,
                env=_plain_env(),
            )
        except FileNotFoundError:
            raise Unavailable("this system has no apt-cache; the sample corpus is made of Debian 12 packages")
        found = {}
        for stanza in done.stdout.split("\n\n"):
            field = dict(re.findall(r"^([A-Za-z0-9-]+): *(.*)$", stanza, re.MULTILINE))
            if "Filename" not in field or field.get("Package") in found:
                continue
            if "/" in field.get("Section", ""):
                area = field["Section"].split("/")[0]
                raise Unavailable(f"package {field['Package']} is in {area}, not in main")
            found[field["Package"]] = Package(
                field["Package"],
                field["Version"],
                field["Architecture"],
                field["Filename"],
                int(field["Size"]),
                field["SHA256"],
                field.get("Source", field["Package"]).split()[0],
                field.get("Homepage", ""),
            )
        return found

    def use_own_lists(self) -> None:
        """Fetches the package lists into the cache: the system's are missing or old."""
        apt = self.cache / "apt"
        for part in ("state/lists/partial", "cache/archives/partial"):
            (apt / part).mkdir(parents=True, exist_ok=True)
        own = [
            *self.options,
            "-o",
            f"Dir::State={apt}/state",
            "-o",
            f"Dir::Cache={apt}/cache",
            "-o",
            "Dir::State::status=/var/lib/dpkg/status",
        ]
        done = subprocess.run(
            ["apt-get", *own, "-q", "-o", "APT::Update::Error-Mode=any", "update"],
            capture_output=True,
            text=True,
            env=_plain_env(),
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            raise Unavailable("apt cannot fetch the package lists (is there a network?):\n" + _tail(done))
        self.options = own

    def missing(self, packages: list[Package]) -> list[Package]:
        """Those whose .deb is not in the cache whole."""
        return [
            p
            for p in packages
            if not (self.cache / p.deb).is_file() or file_sha256(self.cache / p.deb) != p.sha256
        ]

    def fetch(self, packages: list[Package]) -> None:
        """Downloads into the cache; each file appears there whole and verified."""
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self.cache) as folder:
            done = subprocess.run(
                ["apt-get", *self.options, "-q", "download", *(f"{p.name}={p.version}" for p in packages)],
                cwd=folder,
                capture_output=True,
                text=True,
                env=_plain_env(),
                stdin=subprocess.DEVNULL,
            )
            if done.returncode != 0:
                raise Unavailable("apt cannot download the packages (is there a network?):\n" + _tail(done))
            for package in packages:
                arrived = Path(folder) / package.deb
                if not arrived.is_file() or file_sha256(arrived) != package.sha256:
                    raise Unavailable(f"{package.deb} is not what the package lists describe; try again")
                os.replace(arrived, self.cache / package.deb)


def read_deb(deb: Path, wanted) -> dict[str, bytes]:
    """The files of a .deb for which wanted(path) is true; .gz and .dz are unpacked and lose the ending."""
    if not shutil.which("dpkg-deb"):
        raise Unavailable("this system has no dpkg-deb; the sample corpus is made of Debian 12 packages")
    files = {}
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as unpack:
        with tarfile.open(fileobj=unpack.stdout, mode="r|") as tar:
            for member in tar:
                path = member.name.removeprefix("./")
                if member.isfile() and wanted(path):
                    data = tar.extractfile(member).read()
                    if path.endswith((".gz", ".dz")):
                        path, data = path[:-3], gzip.decompress(data)
                    files[path] = data
        while unpack.stdout.read(1 << 16):  # the padding after the last member
            pass
    if unpack.returncode != 0:
        raise Unavailable(f"dpkg-deb cannot read {deb}: remove it and try again")
    return files


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain_env() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


def _tail(done: subprocess.CompletedProcess) -> str:
    return "\n".join((done.stdout + done.stderr).strip().split("\n")[-8:])
