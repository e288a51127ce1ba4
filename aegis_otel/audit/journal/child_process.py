"""Child processes of ours, which import what is installed and nothing that lies around.

Python puts the directory of a script, or the working directory, in front of its own library. Where a tool of
an agent can write a file there, a `hashlib.py` would run in every child, with the key of the seals in reach.
So a child is isolated (`-I`), runs no start-up hooks of packages (`-S`), and gets its own library first, then
the places where its packages are installed; this package is loaded from its own path, not from the directory
that it lies in. The environment has what Python itself needs and what the caller names.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

_PACKAGE = Path(__file__).parents[2]
_START = """
import runpy, sys
from importlib import util
folder, module, count, *rest = sys.argv[1:]
sys.path += rest[:int(count)]
sys.argv = [module, *rest[int(count):]]
name = module.partition(".")[0]
spec = util.spec_from_file_location(name, folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules[name] = util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[name])
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
_NEEDED = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "LANG", "LC_ALL")


def command(module: str, arguments: Sequence[str] = (), packages: Iterable[str] | None = None) -> list[str]:
    """Return the command that runs a module of this package in an isolated Python.

    Args:
        module: Its dotted name; it has an `if __name__ == "__main__"`.
        arguments: What `sys.argv` has after the module.
        packages: The top-level names that it imports beside the standard library. Default: it may import
            whatever this process can, but for what lies beside the script or in the working directory.
    """
    places = list(dict.fromkeys(_installed() if packages is None else _places_of(packages)))
    start = [sys.executable, "-I", "-S", "-c", _START, str(_PACKAGE), module]
    return [*start, str(len(places)), *places, *arguments]


def environment(names: Iterable[str] = ()) -> dict[str, str]:
    """Return the environment of a child: what Python needs to start, and the variables that are named."""
    return {name: os.environ[name] for name in (*_NEEDED, *names) if name in os.environ}


def _places_of(packages: Iterable[str]) -> Iterator[str]:
    """Yield the directory that holds each package; a package that is installed nowhere has none."""
    installed = list(_installed())
    for name in packages:
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is not None:  # this process runs it already, wherever it is from
            path = Path(loaded)
            yield str(path.parents[1] if path.stem == "__init__" else path.parent)
            continue
        yield from next(([place] for place in installed if _holds(place, name)), [])


def _installed() -> Iterator[str]:
    """Yield where packages are installed, then what else this process imports from but its own directory."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    own = {os.path.dirname(os.path.abspath(script))} if script else set()
    with suppress(OSError):  # a working directory that was removed
        own.add(os.getcwd())
    named = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        named.append(site.getusersitepackages())
    yield from (place for place in named if place in sys.path)
    library = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    for place in sys.path:
        if os.path.isabs(place) and os.path.realpath(place) not in map(os.path.realpath, own | library):
            yield place


def _holds(place: str, name: str) -> bool:
    """Return whether a package, or a module of Python or C, of that name lies in a directory."""
    with suppress(OSError), os.scandir(place) as entries:
        return any(
            entry.name == name
            or (entry.name.startswith(f"{name}.") and entry.name.endswith((".py", ".so", ".pyd")))
            for entry in entries
        )
    return False
