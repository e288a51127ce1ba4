"""Write a policy as the one YAML text that is kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from aegis_otel.policy.loading import yaml_reader
from aegis_otel.policy.rules import PolicyDocument


def policy_text(documents: Sequence[PolicyDocument]) -> str | None:
    """Return the text of one file as it is, and else one YAML with the rules of all documents.

    Returns:
        The text; None where the documents were made from something that YAML does not have.
    """
    if len(documents) == 1 and isinstance(documents[0].written, str):
        return documents[0].written
    merged: dict[str, Any] = {"version": "1"}
    rules: list[Any] = []
    for document in documents:
        data = _data(document)
        if data is None:
            return None
        if document.defaults is not None:
            merged.setdefault("defaults", data["defaults"])
        rules += data.get("rules", [])
    merged["rules"] = rules
    try:
        return yaml.dump(merged, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)
    except yaml.YAMLError:
        return None


def _data(document: PolicyDocument) -> dict[str, Any] | None:
    data = document.written
    if isinstance(data, str):
        read, _ = yaml_reader.read(data, document.source)
        data = None if read is None else read.value
    return data if isinstance(data, dict) else None


class _Dumper(yaml.SafeDumper):
    """Writes texts in quotes, so that every version of YAML reads them alike, and no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - as PyYAML has it
        return True

    def represent_text(self, data: str) -> yaml.ScalarNode:
        """Return a text in quotes, unless it is one of the keys and words of policies."""
        is_word = data.isascii() and data.replace("_", "").isalpha() and data.lower() not in _NOT_TEXT
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if is_word else '"')


_NOT_TEXT = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"}
"""Words that a version of YAML reads as something else than a text."""

_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.add_representer(tuple, yaml.SafeDumper.represent_list)
