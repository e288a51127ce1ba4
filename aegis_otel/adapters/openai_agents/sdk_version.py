"""Check that the installed SDK is one that this adapter is made for. Imports nothing of the SDK."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from aegis_otel.errors import ConfigError

OLDEST = (0, 21)


def check_sdk() -> None:
    """Check the version before anything of the SDK is imported, which may fail in any way.

    Raises:
        ConfigError: the SDK is too old.
    """
    needed = ".".join(map(str, OLDEST))
    try:
        found = version("openai-agents")
    except PackageNotFoundError:
        return  # a copy without metadata, or none, which the imports then show
    numbers = re.match(r"(\d+)\.(\d+)", found)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise ConfigError(
            f"openai-agents {found} is installed, and {needed} or newer is needed: "
            f"run `pip install 'openai-agents>={needed}'`"
        )
