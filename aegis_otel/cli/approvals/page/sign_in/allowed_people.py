"""Restrict the page to the people that `--allow-user` and `--allow-role` name."""

from __future__ import annotations

from typing import NamedTuple

from aegis_otel.cli.approvals.page.sign_in.interface import SignInRefused
from aegis_otel.errors import ConfigError
from aegis_otel.policy.patterns import matches_any
from aegis_otel.redaction.terminal import escape, name_list
from aegis_otel.runtime.approval.answer_desk import Person


class AllowedPeople(NamedTuple):
    """Lets in everybody, or who matches one of `users` or has a role that matches one of `roles`."""

    users: tuple[str, ...] = ()
    """Globs, as in `approvers.users` of a policy."""
    roles: tuple[str, ...] = ()
    """Globs, as in `approvers.roles`."""

    @property
    def is_open(self) -> bool:
        """Return whether everybody is let in."""
        return not (self.users or self.roles)

    def check_globs(self) -> None:
        """Check what the options say.

        Raises:
            ConfigError: a glob is empty, so that it lets nobody in.
        """
        if not all(glob.strip() for glob in (*self.users, *self.roles)):
            raise ConfigError(
                "--allow-user or --allow-role is empty: name whom to let in, as in `*@example.com`"
            )

    def sentence(self, who_signs_in: str) -> str:
        """Return a sentence that says whom the page lets in, for a terminal.

        Args:
            who_signs_in: The provider, or the proxy.
        """
        if self.is_open or "*" in self.users:
            return f"Everybody whom {escape(who_signs_in)} signs in is let in."
        kinds = (("users", self.users), ("roles", self.roles))
        found = "; ".join(f"{kind} {escape(name_list(globs))}" for kind, globs in kinds if globs)
        return f"Of those whom {escape(who_signs_in)} signs in, these are let in: {found}."

    def admit(self, person: Person) -> Person:
        """Return a person who is let in.

        Raises:
            SignInRefused: they are not.
        """
        if self.is_open or matches_any(self.users, (person.name,)) or matches_any(self.roles, person.roles):
            return person
        raise SignInRefused(f"`{person.name}` may not use this page: neither their name nor a role is let in")


EVERYBODY = AllowedPeople()
