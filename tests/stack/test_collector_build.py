"""collector/build.sh, with a `go` that makes a file in place of a collector: all but the compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.stack.stack import COLLECTOR

BUILDER = """#!/bin/sh
sleep 1
mkdir build
echo "#!/bin/sh" >build/otelcol-aegis
chmod +x build/otelcol-aegis
"""
GO = f"""#!/bin/sh
echo "$@" >>"$GO_CALLS"
mkdir -p "$GOBIN"
cat >"$GOBIN/builder" <<'END'
{BUILDER}END
chmod +x "$GOBIN/builder"
"""


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """An environment with that `go` and a cache of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "go").write_text(GO)
    (tmp_path / "bin" / "go").chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "GO_CALLS": str(tmp_path / "calls"),
    }


def build(machine: dict[str, str], script: Path = COLLECTOR / "build.sh") -> subprocess.Popen[str]:
    return subprocess.Popen([script], env=machine, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def last_line(process: subprocess.Popen[str]) -> Path:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return Path(out.splitlines()[-1])


def test_it_is_built_once_and_stays_outside_the_checkout(machine: dict[str, str]) -> None:
    first, second = last_line(build(machine)), last_line(build(machine))
    assert first == second
    assert os.access(first, os.X_OK)
    assert first.is_relative_to(machine["XDG_CACHE_HOME"])
    assert len(Path(machine["GO_CALLS"]).read_text().splitlines()) == 1


def test_two_builds_at_once_leave_one_whole_binary(machine: dict[str, str]) -> None:
    both = [build(machine), build(machine)]
    first, second = (last_line(process) for process in both)
    assert first == second
    assert [path.name for path in first.parent.iterdir()] == [first.name]


def test_another_manifest_is_another_binary_and_a_comment_is_not(
    machine: dict[str, str], tmp_path: Path
) -> None:
    def built(name: str, change: str) -> Path:
        copy = tmp_path / name
        copy.mkdir()
        shutil.copy(COLLECTOR / "build.sh", copy)
        (copy / "builder.yaml").write_text((COLLECTOR / "builder.yaml").read_text() + change)
        return last_line(build(machine, copy / "build.sh"))

    assert built("a", "") == built("b", "# a comment\n") != built("c", "converters: []\n")


def test_without_go_it_says_what_to_do(machine: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin" / "go").unlink()
    process = build(machine)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "no `go` on the PATH" in err
