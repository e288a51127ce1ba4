"""The import direction of docs/design.md, held by reading every module's imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FrameType

import pytest

from aegis_otel import Action, Policy, Runtime
from aegis_otel.runtime.audit import AuditLogger

ROOT = Path(__file__).parents[1]
PACKAGE = "aegis_otel"


@dataclass(frozen=True)
class Layer:
    """A set of modules, the layers it may import from besides itself, and whether it is pure."""

    modules: tuple[str, ...]
    sees: tuple[str, ...] = ()
    pure: bool = False


# A new module belongs to exactly one layer: name it, or match it with a pattern. The first match counts.
LAYERS = {
    "names": Layer(("errors", "semconv", "redaction.name_forms"), pure=True),
    "types": Layer(("model", "audit.record"), ("names",), pure=True),
    "redaction": Layer(("redaction", "redaction.*"), ("names", "types"), pure=True),
    "policy": Layer(("policy", "policy.*"), ("names", "types"), pure=True),
    "governance": Layer(("governance", "governance.*"), ("names", "types", "redaction", "policy"), pure=True),
    "config": Layer(("config", "config.*"), ("names",)),
    "audit": Layer(("audit", "audit.*"), ("names", "types", "redaction", "config")),
    "state": Layer(
        ("state", "state.*"),
        ("names", "types", "redaction", "policy", "governance", "config", "audit"),
    ),
    "report": Layer(("report", "report.*"), ("names", "types", "redaction", "config", "audit")),
    "policy_tools": Layer(
        ("policy_tools", "policy_tools.*"),
        ("names", "types", "redaction", "policy", "config", "audit"),
    ),
    "telemetry": Layer(("telemetry", "telemetry.*"), ("names", "types", "redaction", "governance", "config")),
    "runtime": Layer(
        ("runtime", "runtime.*"),
        ("names", "types", "redaction", "policy", "governance", "config", "audit", "state", "telemetry"),
    ),
    "adapters": Layer(
        ("adapters", "adapters.*"),
        ("names", "types", "redaction", "policy", "governance", "config", "telemetry", "runtime"),
    ),
    "surface": Layer(
        ("__init__", "instrumentor", "testing", "cli", "cli.*", "__main__"),
        (
            *("names", "types", "redaction", "policy", "governance", "config"),
            *("audit", "state", "report", "policy_tools", "telemetry", "runtime", "adapters"),
        ),
    ),
}
# Packages inside of a layer, lowest first: a module imports from its own package, from its parents, and from
# the packages before its own.
FLOORS = {
    "audit": ("seals", "journal", "answers", "lake", "verify", "maintenance", "query"),
    "policy": ("operators", "evaluation", "history", "loading", "lint"),
    "adapters.openai_agents": ("tracing", "gates", "capture", "coverage"),
}
MOST_SIBLINGS = 12
MOST_AT_THE_ROOT = 18

# Who may import what is not ours. The longest name that fits an import decides; what is not here is free.
FOREIGN = {
    "agents": ("adapters.openai_agents.*",),
    "click": ("cli", "cli.*"),
    "authlib": ("cli.approvals.page.sign_in.provider",),
    "cryptography": ("audit.seals.ed25519_keys",),
    "_duckdb": ("audit.lake.engine",),
    "duckdb": ("audit.lake.engine", "audit.query.connection"),
    "httpx2": (
        *("cli.approvals.notifications", "cli.approvals.page.sign_in.provider", "cli.doctor.signals"),
        "runtime.approval.webhook",
    ),
    "itsdangerous": ("cli.approvals.page.sign_in.cookies",),
    "jinja2": ("report.page", "cli.approvals.page.*"),
    "joserfc": ("cli.approvals.page.sign_in.provider",),
    "obstore": ("audit.maintenance.object_store",),
    "psycopg": ("state.postgres",),
    "sqlite3": ("state.sqlite",),
    "starlette": ("cli.approvals.page.*",),
    "uvicorn": ("cli.approvals.page.server",),
    "tree_sitter": ("policy.operators.shell_lines",),
    "tree_sitter_bash": ("policy.operators.shell_lines",),
    "opentelemetry": ("telemetry.*",),
    "opentelemetry.exporter": ("telemetry.export_setup",),
    "opentelemetry.instrumentation": ("instrumentor",),
    "opentelemetry.sdk": (
        *("telemetry.export_setup", "telemetry.in_memory", "telemetry.outbox", "telemetry.sampler"),
    ),
}
IMPURE = {"fcntl", "os", "random", "secrets", "select", "shutil", "socket", "subprocess", "tempfile", "time"}
CLOCKS = {"now", "today", "utcnow"}
MAY_READ_THE_CLOCK = {"policy.policy"}  # the default of evaluate's `now`


@dataclass(frozen=True)
class Module:
    name: str
    """Inside the package: `policy.rules`; a package's own file is `policy`, the root's `__init__`."""
    path: Path
    tree: ast.Module
    imports: frozenset[str] = field(default_factory=frozenset)
    """Everything imported anywhere in it, dotted, but for what is only there for types."""
    at_load: frozenset[str] = field(default_factory=frozenset)
    """The part of `imports` that runs when the module is imported."""


@cache
def modules() -> dict[str, Module]:
    found: dict[str, Module] = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "__init__"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        everywhere, at_load = frozenset(imported(tree, True)), frozenset(imported(tree, False))
        found[name] = Module(name, path, tree, everywhere, at_load)
    return found


def imported(node: ast.AST, inside_functions: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, "imports are absolute here"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        elif inside_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imported(child, inside_functions)


def own(imports: frozenset[str]) -> set[str]:
    """The modules of the package among `imports`; `from aegis_otel.x import y` is x.y where that is one."""
    names = set()
    for name in imports:
        inside = name.removeprefix(f"{PACKAGE}.")
        if inside == name:
            continue
        while inside not in modules() and "." in inside:
            inside = inside.rpartition(".")[0]
        names.add(inside if inside in modules() else "__init__")
    return names


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def layer_of(name: str) -> str | None:
    return next((layer for layer, its in LAYERS.items() if matches(name, its.modules)), None)


each_module = pytest.mark.parametrize("module", modules().values(), ids=lambda module: module.name)


@each_module
def test_every_module_has_a_layer(module: Module) -> None:
    """No module is outside the table."""
    assert layer_of(module.name), f"`{module.name}` has no layer: add it to LAYERS in {Path(__file__).name}"


@each_module
def test_imports_point_down(module: Module) -> None:
    """A module imports from its own layer and from those its layer sees, inside functions too."""
    layer = layer_of(module.name)
    assert layer is not None
    allowed = {layer, *LAYERS[layer].sees}
    wrong = {name for name in own(module.imports) if layer_of(name) not in allowed}
    assert not wrong, f"`{module.name}` ({layer}) may import from {sorted(allowed)}, not {sorted(wrong)}"


def test_layers_see_only_layers_above_them_in_the_table() -> None:
    """The table itself has a direction."""
    order = list(LAYERS)
    assert all(order.index(seen) < order.index(name) for name, layer in LAYERS.items() for seen in layer.sees)


@each_module
def test_foreign_packages_have_their_place(module: Module) -> None:
    """OpenTelemetry only in telemetry, its SDK only in one module, agents only in its adapter, and so on."""
    for name in module.imports:
        fitting = [owner for owner in FOREIGN if name == owner or name.startswith(f"{owner}.")]
        if fitting:
            places = FOREIGN[max(fitting, key=len)]
            assert matches(module.name, places), f"`{module.name}` imports `{name}`; only {places} may"


@each_module
def test_the_core_is_pure(module: Module) -> None:
    """No disk, no clock, no chance: `now` and `new_id` are parameters."""
    layer = layer_of(module.name)
    if layer is None or not LAYERS[layer].pure:
        return
    wrong = {name for name in module.imports if name.partition(".")[0] in IMPURE}
    assert not wrong, f"`{module.name}` is part of the pure core and imports {sorted(wrong)}"
    clocks = {
        ast.unparse(node)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS
        if ast.unparse(node.value).rpartition(".")[2] in {"date", "datetime"}
    }
    assert not clocks or module.name in MAY_READ_THE_CLOCK, f"`{module.name}` reads a clock: {sorted(clocks)}"


@each_module
def test_digests_keep_the_interpreters_lock(module: Module) -> None:
    """`audit.keys.keyed_digest` says why not `hmac.digest`, by which the child of a fork may hang."""
    called = [ast.unparse(node) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)]
    assert "hmac.digest" not in called


@each_module
def test_text_is_normalized_in_bounded_time(module: Module) -> None:
    """`redaction.name_forms` says what `unicodedata.normalize` does with a run of marks."""
    if module.name == "redaction.name_forms":
        return
    called = {ast.unparse(node) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
    assert "unicodedata.normalize" not in called | module.imports, f"`{module.name}`: use name_forms"


def test_no_import_cycle() -> None:
    """Modules can be imported in some order."""
    graph = {module.name: own(module.at_load) - {module.name} for module in modules().values()}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")
    assert set(order) == set(modules())


@each_module
def test_packages_point_down(module: Module) -> None:
    """Inside of a layer that has floors, a package imports from itself and from lower floors."""
    for layer, floors in FLOORS.items():
        own_floor = floor_of(module.name, layer, floors)
        if own_floor is None:
            continue
        above = floors[floors.index(own_floor) + 1 :]
        wrong = {name for name in own(module.imports) if floor_of(name, layer, floors) in above}
        assert not wrong, f"`{module.name}` is on the floor `{own_floor}` and imports {sorted(wrong)}"


def floor_of(name: str, layer: str, floors: tuple[str, ...]) -> str | None:
    """Return the package below `layer` that a module is in, if it is one of `floors`."""
    inside = name.removeprefix(f"{layer}.")
    floor = inside.partition(".")[0]
    return floor if inside != name and floor in floors else None


def test_every_floor_is_a_package() -> None:
    """The table of floors names packages that exist, and leaves out none that has modules."""
    for layer, floors in FLOORS.items():
        folder = ROOT / PACKAGE / layer.replace(".", "/")
        packages = {path.parent.name for path in folder.glob("*/__init__.py")}
        assert packages == set(floors), layer


def test_packages_have_few_siblings() -> None:
    """A stranger reads at most twelve names to find the next one; at the root eighteen."""
    for folder in sorted({path.parent for path in (ROOT / PACKAGE).rglob("*.py")}):
        names = [
            path.stem
            for path in folder.iterdir()
            if (path.suffix == ".py" and path.name != "__init__.py") or (path / "__init__.py").exists()
        ]
        most = MOST_AT_THE_ROOT if folder == ROOT / PACKAGE else MOST_SIBLINGS
        assert len(names) <= most, f"{folder.relative_to(ROOT)} has {len(names)} siblings: {sorted(names)}"


@each_module
def test_signal_names_are_spelled_once(module: Module) -> None:
    """Only semconv.py holds the name of a signal."""
    if module.name == "semconv":
        return
    spelled = {
        node.value
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"(aegis|gen_ai)\.[a-z_.]+", node.value)
    }
    assert not spelled, f"`{module.name}` spells {sorted(spelled)}: use the constants of semconv.py"


@each_module
def test_modules_stay_small_and_about_something(module: Module) -> None:
    """At most 600 lines, and no drawer for odds and ends."""
    lines = len(module.path.read_text(encoding="utf-8").splitlines())
    assert lines <= 600, f"`{module.name}` has {lines} lines: it is more than one idea"
    assert module.path.stem not in {"utils", "util", "helpers", "common", "misc"}


def test_import_is_free() -> None:
    """Promise 9: importing the package starts no thread, opens no file and loads nothing heavy."""
    program = """
import os, sys, threading
opened = set(os.listdir("/dev/fd"))
import aegis_otel
heavy = ("agents", "click", "duckdb", "msgspec", "opentelemetry", "pydantic", "re2", "rich", "yaml")
print([name for name in heavy if name in sys.modules])
print(threading.active_count(), sorted(set(os.listdir("/dev/fd")) - opened))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.splitlines() == ["[]", "1 []"]


@pytest.mark.parametrize(
    "name", ["redaction.redactor", "redaction.terminal", "policy", "audit.record", "governance.governor"]
)
def test_the_core_loads_without_the_rim(name: str) -> None:
    """Using a part of the core loads neither telemetry, the SDK, DuckDB nor a terminal library."""
    program = f"""
import sys, aegis_otel.{name}
print([name for name in ("agents", "click", "duckdb", "opentelemetry", "rich") if name in sys.modules])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"


async def test_a_call_is_authorized_straight_on(tmp_path: Path) -> None:
    """From `Governor.authorize` on, control comes back to a module that it has left at most ten times.

    Counted are calls from one module of this package into another that was entered before, for a call that
    an `auto` rule allows, with an audit and without an OpenTelemetry SDK. Before this layout there were 24.
    """
    rules = [{"name": "search", "match": {"type": "search*"}, "risk_level": "low", "approval": "auto"}]
    runtime = Runtime(
        policy=Policy.from_dict({"version": "1", "rules": rules}), audit_logger=AuditLogger(tmp_path)
    )
    await runtime.governor.authorize(Action("search"))  # makes the journal
    inside = f"{ROOT / PACKAGE}/"
    stack: list[str | None] = []
    entered: set[str] = set()
    returns: list[str] = []

    def follow(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and stack:
            stack.pop()
        elif event == "call":
            caller, name = stack[-1] if stack else None, frame.f_code.co_filename
            module = name.removeprefix(inside) if name.startswith(inside) else caller
            stack.append(module)
            if module is not None and module != caller:
                if module in entered:
                    returns.append(f"{caller} -> {module}: {frame.f_code.co_name}")
                entered.add(module)

    way = runtime.governor.authorize(Action("search", params={"query": "x"}))
    sys.setprofile(follow)
    try:
        with pytest.raises(StopIteration):
            way.send(None)
    finally:
        sys.setprofile(None)
    assert "governance/governor.py" in entered
    assert len(returns) <= 10, "\n".join(returns)
