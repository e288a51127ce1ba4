"""A real Kafka broker: one node in KRaft mode, from Apache Kafka's published jars, started by its tests."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

POM = Path(__file__).with_name("kafka.pom.xml")

SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
num.partitions=1
"""
CLUSTER = "4L6g3nShT-eMCtK--X86sw"


def missing() -> str | None:
    """What of a broker cannot be had here; None where it can."""
    absent = [name for name in ("java", "mvn") if shutil.which(name) is None]
    return f"no `{'` and no `'.join(absent)}` on the PATH" if absent else None


def jars() -> Path:
    """The broker's jars, fetched once a machine."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aegis-otel" / "kafka"
    place = cache / hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as draft:
            shutil.copy(POM, Path(draft) / "pom.xml")
            command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars"]
            subprocess.run(command, cwd=draft, check=True, capture_output=True, timeout=600)
            if not place.exists():
                (Path(draft) / "jars").rename(place)
    return place


class Broker:
    """A broker with its data in a folder; it can be stopped, and started again with the same data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jars = jars()
        self.port, controller = _free_ports()
        self.address = f"127.0.0.1:{self.port}"
        self._settings = folder / "server.properties"
        folder.mkdir()
        self._settings.write_text(
            SETTINGS.format(port=self.port, controller=controller, data=folder / "data")
        )
        self._run(
            "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(self._settings)
        ).check_returncode()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, patience_s: float = 90.0) -> None:
        """Start it, and wait until it listens."""
        log = (self._folder / "broker.log").open("ab")
        self._process = subprocess.Popen(
            [*self._java("kafka.Kafka"), str(self._settings)], stdout=log, stderr=subprocess.STDOUT
        )
        log.close()
        end = time.monotonic() + patience_s
        while time.monotonic() < end and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.2)
        raise AssertionError(
            f"the broker does not listen: {(self._folder / 'broker.log').read_text()[-2000:]}"
        )

    def stop(self, *, kill: bool = False) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def _java(self, main: str) -> list[str]:
        return ["java", "-Xmx384m", "-cp", f"{self._jars}/*", main]

    def _run(self, main: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*self._java(main), *arguments], capture_output=True, timeout=120)


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
