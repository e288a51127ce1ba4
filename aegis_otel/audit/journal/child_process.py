"""Child processes that import installed packages only, and nothing from the working directory.

Python puts the directory of a script, or the working directory, in front of its own library. If a tool of an
agent can write a `hashlib.py` there, it would run in every child, with the key of the seals in reach. So a
child is isolated (`-I`), runs no start-up hooks of packages (`-S`), and imports from Python's library first,
then from the directories of its packages. This package is loaded from its own path, not by its directory.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.machinery import PathFinder
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
        module: The dotted name of a module with an `if __name__ == "__main__"`.
        arguments: What `sys.argv` has after the module.
        packages: The top-level names that it imports beside the standard library. Default: whatever this
            process can import, except from the directory of the script and the working directory.
    """
    places = list(dict.fromkeys(_installed() if packages is None else _places_of(packages)))
    start = [sys.executable, "-I", "-S", "-c", _START, str(_PACKAGE), module]
    return [*start, str(len(places)), *places, *arguments]


def environment(names: Iterable[str] = ()) -> dict[str, str]:
    """Return the environment of a child: the variables that Python needs to start, and those in `names`."""
    return {name: os.environ[name] for name in (*_NEEDED, *names) if name in os.environ}


def _places_of(packages: Iterable[str]) -> Iterator[str]:
    """Yield the directory that holds each package, for the packages that are installed."""
    installed = list(_installed())
    for name in packages:
        file = getattr(sys.modules.get(name), "__file__", None)  # this process runs it, wherever it is from
        if file is None and (spec := PathFinder.find_spec(name, installed)):
            file = spec.origin
        if file is not None:
            path = Path(file)
            yield str(path.parents[1] if path.stem == "__init__" else path.parent)


def _installed() -> Iterator[str]:
    """Yield where packages are installed, then the rest of `sys.path` but for the script's and the cwd."""
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
