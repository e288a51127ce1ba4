"""The user as whom the terminal and the commands answer."""

from __future__ import annotations

import os
import pwd

import pytest

from aegis_otel.runtime.approval.local_user import local_user_name
from aegis_otel.runtime.approval.terminal import CLIApprovalHandler


def test_the_operating_system_says_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("USER", "LOGNAME", "SUDO_USER"):
        monkeypatch.setenv(variable, "ann@example.com")
    assert local_user_name() == pwd.getpwuid(os.getuid()).pw_name


def test_a_user_without_a_name_is_the_same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: the terminal and the commands write the same name down."""
    monkeypatch.setattr(os, "getuid", lambda: 3_999_999_998)
    assert local_user_name() == CLIApprovalHandler().approver == "uid-3999999998"
