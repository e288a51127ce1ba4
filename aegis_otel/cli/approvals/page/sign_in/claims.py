"""Read a person's name and roles from claims, and check names and roles from a proxy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from aegis_otel.cli.approvals.page.sign_in.interface import SignInRefused
from aegis_otel.errors import AnswerRefused
from aegis_otel.redaction.terminal import escape
from aegis_otel.runtime.approval.answer_desk import LONGEST_NAME, person_name

_MOST_ROLES = 1_000


class ClaimNames(NamedTuple):
    """Which claims say who somebody is."""

    user: str = "email"
    roles: str = "roles"
    """A claim, or a path through objects such as `realm_access.roles`; a claim of that name comes first."""


def with_userinfo(claims: dict[str, Any], userinfo: dict[str, Any]) -> dict[str, Any]:
    """Return the claims of an ID token, and those that only the userinfo endpoint has.

    An address of e-mail and whether it is verified are from one of them: else an address that nobody has
    verified would count by another one that somebody has.
    """
    found = {**userinfo, **claims}
    found.pop("email_verified", None)
    source = claims if "email" in claims else userinfo
    if "email_verified" not in source and source.get("email") == userinfo.get("email"):
        source = userinfo
    if "email_verified" in source:
        found["email_verified"] = source["email_verified"]
    return found


def name_of(claims: Mapping[str, Any], names: ClaimNames) -> str:
    """Return the name of the person.

    Raises:
        SignInRefused: there is none, or it is an address of e-mail that the provider has not verified.
    """
    value = claims.get(names.user)
    if not isinstance(value, str):
        raise SignInRefused(f"the provider names nobody: it has no text as claim `{names.user}`")
    # Where people may enter any address at the provider, an unverified one is that of somebody else.
    if names.user == "email" and claims.get("email_verified") not in (True, "true"):
        raise SignInRefused(
            f"the provider does not say that the address `{escape(value[:LONGEST_NAME])}` is verified"
        )
    return checked_name(value)


def checked_name(name: str) -> str:
    """Return the name of a person as rules and answers have it; raises SignInRefused where it is none."""
    try:
        return person_name(name)
    except AnswerRefused as error:
        raise SignInRefused(str(error)) from None


def has_roles(claims: Mapping[str, Any], names: ClaimNames) -> bool:
    """Return whether the claims say anything about roles."""
    return _find(claims, names.roles) is not None


def roles_of(claims: Mapping[str, Any], names: ClaimNames) -> tuple[str, ...]:
    """Return the roles: a list of texts, or one text with spaces between them. No claim is no role.

    Raises:
        SignInRefused: the claim is something else.
    """
    value = _find(claims, names.roles)
    if value is None:
        return ()
    found = value.split() if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(role, str) for role in found):
        raise SignInRefused(f"the claim `{names.roles}` is neither a list of texts nor a text")
    return checked_roles(found)


def checked_roles(roles: list[str]) -> tuple[str, ...]:
    """Return roles in alphabetical order, each once.

    Raises:
        SignInRefused: they are too many or too long.
    """
    if len(roles) > _MOST_ROLES or any(len(role) > LONGEST_NAME for role in roles):
        raise SignInRefused(
            f"there are more than {_MOST_ROLES} roles, or one is longer than {LONGEST_NAME} characters"
        )
    return tuple(sorted({role for role in roles if role}))


def _find(claims: Mapping[str, Any], path: str) -> Any:
    if path in claims:  # names of claims may have dots, as `https://example.com/roles`
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found
