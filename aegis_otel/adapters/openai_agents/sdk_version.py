"""Check that the installed SDK is one that this adapter is made for. Needs nothing of the SDK."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from aegis_otel.errors import ConfigError

OLDEST = (0, 21)


def check_sdk() -> None:
    """Look at the version before anything of the SDK is imported, which may fail in any way.

    Raises:
        ConfigError: it is too old, or not there.
    """
    needed = ".".join(map(str, OLDEST))
    remedy = f"run `pip install 'openai-agents>={needed}'`"
    try:
        found = version("openai-agents")
    except PackageNotFoundError:
        return  # a copy without metadata: the imports tell
    numbers = re.match(r"(\d+)\.(\d+)", found)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) < OLDEST:
        raise ConfigError(f"openai-agents {found} is installed, and {needed} or newer is needed: {remedy}")
