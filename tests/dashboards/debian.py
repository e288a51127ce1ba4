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
