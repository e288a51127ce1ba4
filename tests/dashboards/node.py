"""Grafana's own grammars and types, from npm into the cache, by the committed lock file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).with_name("grammars")


def missing() -> str | None:
    absent = [name for name in ("node", "npm") if shutil.which(name) is None]
    return f"no `{'` and no `'.join(absent)}` on the PATH" if absent else None


def packages() -> Path:
    """Where they are installed, once a machine and lock file, with the scripts that use them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aegis-otel" / "npm"
    parts = [path.read_bytes() for path in sorted(HERE.iterdir())]
    place = cache / hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=cache))
        shutil.copytree(HERE, draft, dirs_exist_ok=True)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=draft, check=True, capture_output=True, timeout=300)
        if place.exists():
            shutil.rmtree(draft)
        else:
            draft.rename(place)
    return place


def parsed(queries: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """For each (store, expression): `errors`, and the `names` in it."""
    asked = json.dumps([{"store": store, "expr": expr} for store, expr in queries])
    command = ["node", "parse.mjs"]
    ran = subprocess.run(
        command, cwd=packages(), input=asked, check=True, capture_output=True, text=True, timeout=60
    )
    answers: list[dict[str, Any]] = json.loads(ran.stdout)
    assert len(answers) == len(queries)
    return answers


def type_errors(source: str, folder: Path) -> list[str]:
    """What TypeScript says of `source`, which may import from the packages."""
    (folder / "check.ts").write_text(source)
    (folder / "plain.ts").write_text((HERE / "plain.ts").read_text())
    (folder / "node_modules").symlink_to(packages() / "node_modules")
    compiler = folder / "node_modules/typescript/bin/tsc"
    options = "--noEmit --strict --skipLibCheck --target es2022 --module nodenext --moduleResolution nodenext"
    command = ["node", str(compiler), *options.split(), "check.ts"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    return ran.stdout.splitlines()
