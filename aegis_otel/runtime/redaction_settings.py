"""Read the redaction settings of a process: an argument, or the file that `AEGIS_REDACTION` names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from aegis_otel.config import REDACTION
from aegis_otel.errors import ConfigError
from aegis_otel.redaction import settings

RedactionSource: TypeAlias = "Mapping[str, Any] | str | os.PathLike[str]"
_LARGEST = 1_000_000


def use_redaction(source: RedactionSource | None) -> None:
    """Have the process redact by the settings in `source` from now on.

    None leaves the settings that are in force; at first those are the environment's.

    Raises:
        ConfigError: the settings are unusable; the message names the file and the entry.
    """
    if source is None and settings.in_force() is not None:
        return
    settings.apply(resolved(source))


def resolved(source: RedactionSource | None) -> settings.Settings:
    """Return the settings in `source`.

    Raises:
        ConfigError: as for `use_redaction`.
    """
    if isinstance(source, Mapping):
        return settings.parse(source)
    path = REDACTION.value(None if source is None else os.fspath(source))
    return settings.parse(_read(Path(path)), path) if path else settings.Settings()


def _read(path: Path) -> object:
    import yaml  # noqa: PLC0415 - only who has such a file pays for the parser

    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ConfigError(f"`{path}` is larger than {_LARGEST} bytes")
        content = yaml.safe_load(data.decode())
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError(f"the redaction settings in `{path}` cannot be read: {why}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the redaction settings in `{path}` are not UTF-8: {error.reason}") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark is not None else "somewhere"
        raise ConfigError(f"the redaction settings in `{path}` are no YAML ({where})") from None
    if content is None:
        raise ConfigError(f"the redaction settings in `{path}` are empty: write `{{}}` where nothing is set")
    return content
