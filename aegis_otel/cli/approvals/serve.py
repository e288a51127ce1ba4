"""`aegis approvals serve`: the page on which people see and answer questions."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import click

from aegis_otel.cli.approvals.opening import inbox_words, load_signer, open_desk, path_option
from aegis_otel.cli.approvals.page.sign_in.options import chosen_sign_in, secret_of, sign_in_options
from aegis_otel.cli.rendering import echo
from aegis_otel.config import ANSWER_KEY, STATE
from aegis_otel.errors import ConfigError
from aegis_otel.redaction.terminal import escape

if TYPE_CHECKING:
    from aegis_otel.cli.approvals.page.guard import Site
    from aegis_otel.runtime.approval.answer_desk import AnswerDesk

PORT = 8484


@click.command(short_help="Serve the page on which people answer.")
@path_option
@click.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="The address to listen at."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="The port to listen at; 0: any.",
)
@click.option(
    "--url",
    metavar="URL",
    help="The address by which people open the page, where a proxy with TLS is before it: "
    "https://approvals.example.com.  [default: --host and --port]",
)
@sign_in_options
@click.option(
    "--notify-url",
    metavar="URL",
    envvar="AEGIS_NOTIFY_URL",
    show_envvar=True,
    help="The web service that gets a message for each question that waits or has ended.",
)
@click.option(
    "--notify-secret-file",
    metavar="FILE",
    envvar="AEGIS_NOTIFY_SECRET_FILE",
    show_envvar=True,
    help="The file with the secret that signs these messages; or the secret in AEGIS_NOTIFY_SECRET.",
)
def serve(
    *,
    path: str | None,
    host: str,
    port: int,
    url: str | None,
    notify_url: str | None,
    notify_secret_file: str | None,
    **sign_in: Any,
) -> None:
    """Serve the page on which people see and answer questions, until Ctrl-C.

    Without a way to sign in, the page is for the user of this machine, by a link that is printed here.
    docs/approvals-production.md says how to run it for others.
    """
    try:
        from aegis_otel.cli.approvals.page.app import Page
        from aegis_otel.cli.approvals.page.guard import read_site
        from aegis_otel.cli.approvals.page.server import make_server
        from aegis_otel.cli.approvals.page.sign_in.local import LocalSignIn
    except ImportError as error:
        raise ConfigError(
            f"the page needs more packages ({error}): run `pip install 'aegis-otel[approvals]'`"
        ) from error
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("aegis_otel.approvals").setLevel(logging.INFO)  # who signs in
    from aegis_otel.telemetry.export_setup import configure_otlp

    configure_otlp()
    with _listen(host, port) as listener:
        own = _address(listener)
        if not url and not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
            raise ConfigError(
                f"other machines reach `{host}`: say by --url at which https address people open the page"
            )
        site = read_site(url or own)
        signer, desk = load_signer(path), open_desk(path, makes_inbox=True)
        way = chosen_sign_in(sign_in, site, signer.derived_key("sessions"), own)
        notifications = _notifications(desk, notify_url, notify_secret_file, site)
        page = Page(desk, way, site, signer.derived_key("page"))
        page.load()
        if not isinstance(way, LocalSignIn):
            _warn_of_defaults()
        where = "" if site.origin == own else f"; it listens at {own}"
        echo(f"The page is at {site.origin}{where}. Ctrl-C ends it.")
        echo(f"Questions come from {escape(inbox_words(path))}; answers are signed by {signer.key_id}.")
        way.begin()
        with notifications, suppress(KeyboardInterrupt):
            make_server(page).run(sockets=[listener])


def _warn_of_defaults() -> None:
    """Warn of a page for others that has the inbox and the key of this user: agents may have other ones."""
    for setting, what in (
        (STATE, "shows only questions of agents on this machine that work in this audit directory"),
        (ANSWER_KEY, "signs with this user's own key, which only agents of this user trust"),
    ):
        if not setting.value():
            click.echo(f"Warning: without {setting.env}, the page {what}.", err=True)


def _notifications(
    desk: AnswerDesk, url: str | None, secret_file: str | None, site: Site
) -> AbstractContextManager[None]:
    """Return what sends messages while it lasts.

    Raises:
        ConfigError: an option or the secret cannot work.
    """
    if not url:
        if secret_file:
            raise ConfigError("--notify-secret-file does nothing without --notify-url")
        return nullcontext()
    from aegis_otel.cli.approvals.notifications import Notifier, notifying

    secret = secret_of("AEGIS_NOTIFY_SECRET", secret_file or "")
    if not secret:
        raise ConfigError(
            "--notify-url needs a secret that signs its messages: name its file by --notify-secret-file, or "
            "set AEGIS_NOTIFY_SECRET"
        )
    return notifying(Notifier(desk.inbox, desk.answers, url, secret, site.origin))


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens there.

    Raises:
        ConfigError: it is no address of this machine, or in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        code = getattr(error, "errno", None)
        # Python's own text repeats the address.
        why = os.strerror(code) if code and code > 0 else getattr(error, "strerror", None) or str(error)
        hint = "; another page may run there: choose --port" if code == errno.EADDRINUSE else ""
        raise ConfigError(f"cannot listen at `{host}`, port {port}: {why.lower()}{hint}") from error


def _address(listener: socket.socket) -> str:
    """Return the URL at which a socket listens."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
