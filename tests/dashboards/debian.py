"""Programs from Debian's packages, unpacked into the cache: nothing is installed and no daemon begins."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PACKAGES = ("prometheus", "prometheus-alertmanager")


def missing() -> str | None:
    absent = [name for name in ("apt-get", "dpkg") if shutil.which(name) is None]
    return f"no `{'` and no `'.join(absent)}` on the PATH (of a Debian)" if absent else None


_TEMPLATES = Path("/usr/share/prometheus/alertmanager")
"""Where Debian's Alertmanager looks for its templates, whatever its configuration says."""
_MOUNT = """
mount -t tmpfs none /usr/share && mkdir /usr/share/prometheus &&
mount --bind "$0" /usr/share/prometheus && exec "$@"
"""


def alertmanager() -> list[str]:
    """The command to start it: with its own view of /usr/share, where its package is not installed."""
    binary = program("prometheus-alertmanager")
    if _TEMPLATES.exists():
        return [str(binary)]
    shared = binary.parents[1] / "share" / "prometheus"
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", _MOUNT, str(shared), str(binary)]


def no_alertmanager() -> str | None:
    """What of it cannot be had here; None where it can."""
    if missing() or _TEMPLATES.exists():
        return missing()
    tried = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/usr/share"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    return f"no mount namespace for Alertmanager's templates: {tried.stderr}" if tried.returncode else None


def program(name: str) -> Path:
    """`prometheus`, `promtool`, `prometheus-alertmanager` or `amtool`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aegis-otel" / "debian"
    place = cache / "+".join(PACKAGES)
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=cache))
        run = {"cwd": draft, "check": True, "capture_output": True, "timeout": 300}
        subprocess.run(["apt-get", "download", *PACKAGES], **run)  # type: ignore[call-overload]
        for archive in draft.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(archive), "root"], **run)  # type: ignore[call-overload]
            archive.unlink()
        if place.exists():
            shutil.rmtree(draft)
        else:
            (draft / "root").rename(place)
            draft.rmdir()
    return place / "usr" / "bin" / name
