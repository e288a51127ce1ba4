"""Route requests of the page, check who is signed in, and record refused attempts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from aegis_otel.cli.approvals.page.board import ListedQuestion, WaitingBoard
from aegis_otel.cli.approvals.page.change_stream import ChangeStream
from aegis_otel.cli.approvals.page.forms import FormGuard, FormRefused
from aegis_otel.cli.approvals.page.guard import Guard, Site
from aegis_otel.cli.approvals.page.sign_in.interface import SignIn, SignInRefused
from aegis_otel.cli.approvals.page.static_files import FILES
from aegis_otel.cli.approvals.page.views import GRANTS, PER_PAGE, Counts, PageReader, Views
from aegis_otel.cli.approvals.wording import to_you
from aegis_otel.errors import AnswerRefused, StateError
from aegis_otel.governance.approvals.inbox import QuestionState, QuestionStatus
from aegis_otel.redaction.terminal import escape
from aegis_otel.runtime.approval.answer_desk import AnswerDesk, Person

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_log = logging.getLogger("aegis_otel")
_people_log = logging.getLogger("aegis_otel.approvals")
_HOME = ("/", "To the questions")
_HEADINGS = {404: "There is no such page", 405: "That does not work this way", 502: "Nobody can sign in now"}
_ENDED = tuple(each for each in QuestionStatus if each is not QuestionStatus.WAITING)
_LONGEST_ID = 200
_NOBODY = "nobody who is signed in"


class Page:
    """The page as an ASGI application.

    Args:
        desk: Takes the answers.
        sign_in: The way to sign in.
        site: Where people open it.
        key: Signs its forms: 32 secret bytes. Several processes of one page share it.
    """

    def __init__(self, desk: AnswerDesk, sign_in: SignIn, site: Site, key: bytes) -> None:
        self._desk = desk
        self._sign_in = sign_in
        self._board = WaitingBoard(desk)
        self._views = Views(desk)
        self._forms = FormGuard(site, key)
        self.change_stream = ChangeStream(self._board)
        """Ends the streams of open pages, so that the server can stop."""
        routes = [
            Route("/", self._shown(self._list), methods=["GET"]),
            Route("/questions/{id}", self._shown(self._question), methods=["GET"]),
            Route("/questions/{id}/answer", self._form(self._answer, "answer"), methods=["POST"]),
            Route("/ended", self._shown(self._ended), methods=["GET"]),
            Route("/grants", self._shown(self._grants), methods=["GET"]),
            Route("/grants/{id}/revoke", self._form(self._revoke, "revoke"), methods=["POST"]),
            Route("/sign-out", self._form(self._sign_out, "sign-out"), methods=["POST"]),
            Route("/changes", self._changes, methods=["GET"]),
            Route("/static/{name}", self._file, methods=["GET"]),
            *map(_by_get_alone, sign_in.routes),
        ]
        handlers = {
            SignInRefused: self._on_sign_in_refused,
            HTTPException: self._on_http_error,
            StateError: self._on_state_error,
            Exception: self._on_error,
        }
        app = Starlette(routes=routes, exception_handlers=handlers)
        # It would send to http where a proxy with TLS is before the page.
        app.router.redirect_slashes = False
        self.app: ASGIApp = Guard(app, site)

    def load(self) -> None:
        """Read what waits, before anybody opens the page.

        Raises:
            StateError: the inbox cannot be reached.
        """
        self._board.refresh()

    # --- who it is ---

    async def _person(self, request: Request) -> Person | None:
        """Return who is signed in, and write down what says so without proof."""
        try:
            return self._sign_in.person(request)
        except SignInRefused as error:
            request.state.refusal = str(error)
            await self._record(request, str(error))
            return None

    def _shown(
        self, show: Callable[[Request, PageReader], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that shows a page to who is signed in, and has others sign in."""

        async def endpoint(request: Request) -> Response:
            person = await self._person(request)
            if person is None:
                return self._to_sign_in(request)
            return await self._respond(request, person, show)

        return endpoint

    async def _respond(
        self, request: Request, person: Person, show: Callable[[Request, PageReader], Awaitable[Response]]
    ) -> Response:
        browser = self._forms.browser(request)
        listed, counts = await asyncio.to_thread(self._counted, person)
        request.state.listed = listed
        response = await show(
            request, PageReader(person, partial(self._forms.token, browser, person), counts)
        )
        self._forms.remember(response, browser)
        return response

    def _counted(self, person: Person) -> tuple[list[ListedQuestion], Counts]:
        """Return what waits, and how much that is; as far as known, where the inbox cannot be reached."""
        problem, grants = None, 0
        try:
            self._board.refresh()
            grants = self._board.grant_count()
        except StateError as error:
            problem = f"What you see may be out of date: {error}"
        listed = self._board.listed(person)
        return listed, Counts(sum(each.is_theirs for each in listed), len(listed), grants, problem)

    def _to_sign_in(self, request: Request) -> Response:
        """Have a browser sign in; a script of ours is only told that nobody is signed in."""
        if "x-requested-with" in request.headers or request.url.path == "/changes":
            return PlainTextResponse("Nobody is signed in.\n", 401)
        if self._sign_in.start is not None:
            path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"{self._sign_in.start}?next={quote(path, safe='')}", 303)
        return self._say_who(request, ["Open this page by the way that signs you in."])

    def _say_who(self, request: Request, sentences: Sequence[str]) -> Response:
        """Say that nobody is signed in, and why what was presented does not count."""
        why = getattr(request.state, "refusal", None)
        if why is None:
            return self._say(401, "You are not signed in", sentences, _HOME)
        return self._say(403, "You are not signed in", [f"It was refused: {why}.", *sentences], _HOME)

    # --- pages ---

    async def _list(self, request: Request, reader: PageReader) -> Response:
        number = request.query_params.get("page", "1")
        page = max(1, int(number)) if number.isascii() and number.isdecimal() and len(number) < 7 else 1
        tab = "all" if request.query_params.get("show") == "all" else "yours"
        return await self._html(self._views.list, reader, request.state.listed, tab, page)

    async def _question(self, request: Request, reader: PageReader) -> Response:
        return await self._show_question(
            request, reader, whole=request.query_params.get("all") == "1", problem=None, status=200
        )

    async def _show_question(
        self, request: Request, reader: PageReader, *, whole: bool, problem: str | None, status: int
    ) -> Response:
        state = await self._look(request)
        if state is None:
            return self._say(404, "There is no such question", [problem] if problem else [])
        render = partial(self._views.question, whole=whole, problem=problem)
        return await self._html(render, reader, state, status=status)

    async def _look(self, request: Request) -> QuestionState | None:
        decision_id = _id(request)
        found = await asyncio.to_thread(self._desk.inbox.look, [decision_id])
        return found.get(decision_id)

    async def _ended(self, request: Request, reader: PageReader) -> Response:
        after = request.query_params.get("after")
        listing = partial(self._desk.inbox.listing, _ENDED, newest_first=True)
        found = await asyncio.to_thread(listing, PER_PAGE, after)
        last = found[-1].question.decision_id if found else None
        is_more = bool(found and await asyncio.to_thread(listing, 1, last))
        return await self._html(self._views.ended, reader, found, after, last if is_more else None)

    async def _grants(self, request: Request, reader: PageReader) -> Response:
        after = request.query_params.get("after")
        found = await asyncio.to_thread(self._desk.inbox.all_grants, PER_PAGE, after)
        last = found[-1].grant_id if found else None
        is_more = bool(found and await asyncio.to_thread(self._desk.inbox.all_grants, 1, last))
        holding = [each for each in found if each.revoked_by is None]
        return await self._html(self._views.grants, reader, holding, after, last if is_more else None)

    async def _changes(self, request: Request) -> Response:
        person = await self._person(request)
        if person is None:
            return self._to_sign_in(request)
        return self.change_stream.listen(person.name)

    async def _file(self, request: Request) -> Response:
        content = FILES.get(request.path_params["name"])
        if content is None:
            raise HTTPException(404)
        return Response(content.body, media_type=content.type, headers={"cache-control": "max-age=86400"})

    # --- forms ---

    def _form(
        self, act: Callable[[Request, Person, Mapping[str, str]], Awaitable[Response]], purpose: str
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint for a form that a person who is signed in has sent from this page."""

        async def endpoint(request: Request) -> Response:
            person = await self._person(request)
            try:
                fields = await self._forms.read(request)
                if person is None:
                    if not hasattr(request.state, "refusal"):  # else it is written down already
                        await self._record(request, "nobody is signed in")
                    return self._say_who(request, ["Nothing was done."])
                what = " ".join([purpose, *(fields.get(each, "") for each in ("digest", "shown"))])
                self._forms.check(fields, request, person, what, request.path_params.get("id", ""))
            except FormRefused as error:
                await self._record(request, str(error), person, error.detail)
                why = f"{error}: {error.detail}" if error.detail else str(error)
                return self._say(403, "Nothing was done", [f"It was refused: {why}."], _HOME)
            return await act(request, person, fields)

        return endpoint

    async def _answer(self, request: Request, person: Person, fields: Mapping[str, str]) -> Response:
        decision_id, said, grant = _id(request), fields.get("answer"), fields.get("grant", "")
        if said not in ("yes", "no") or grant not in GRANTS:
            return self._say(400, "Nothing was done", ["The form has neither a yes nor a no."], _HOME)
        give = partial(
            self._desk.give,
            decision_id,
            fields["digest"],
            person,
            approved=said == "yes",
            reason=fields.get("reason"),
            grant=GRANTS[grant].terms,
        )
        whole = fields["shown"] == "all"
        try:
            if said == "yes" and not whole:
                raise AnswerRefused("all of its arguments have to be shown before they can be approved")
            await asyncio.to_thread(give)
        except AnswerRefused as error:
            self._log_refusal(request, str(error), person)  # the inbox has it from the desk
            why = f"Your answer does not count: {to_you(str(error), person)}."
            show = partial(self._show_question, whole=whole, problem=why, status=409)
            return await self._respond(request, person, show)
        return RedirectResponse(f"/questions/{quote(decision_id, safe='')}", 303)

    async def _revoke(self, request: Request, person: Person, fields: Mapping[str, str]) -> Response:  # noqa: ARG002
        if await asyncio.to_thread(self._desk.inbox.revoke, _id(request), person.name):
            _people_log.info("%s has ended the grant %s", escape(person.name), escape(_id(request)))
        return RedirectResponse("/grants", 303)

    async def _sign_out(self, request: Request, person: Person, fields: Mapping[str, str]) -> Response:  # noqa: ARG002
        sentences = ["Close the browser, too, if others use it."]
        response = self._say(200, "You are signed out", sentences, _HOME)
        if not self._sign_in.sign_out(request, response):
            return self._say(
                200, "You are still signed in", ["Sign out where you signed in: this page keeps no session."]
            )
        return response

    # --- what goes wrong ---

    async def _record(
        self, request: Request, why: str, person: Person | None = None, detail: str = ""
    ) -> None:
        """Write down what was refused: in the log, and where it is about a question, in the inbox.

        What nobody who is signed in sends is in the log only: anybody could write as much as they like.
        """
        self._log_refusal(request, f"{why}: {detail}" if detail else why, person)
        if person is not None and request.method == "POST" and request.url.path.startswith("/questions/"):
            with suppress(StateError):
                await asyncio.to_thread(self._desk.inbox.refuse, _id(request), person.name, why)

    def _log_refusal(self, request: Request, why: str, person: Person | None) -> None:
        client = request.client.host if request.client else "an unknown address"
        name = person.name if person else _NOBODY
        what = f"{request.method} {request.url.path[:_LONGEST_ID]} from {client} by {name}"
        _log.warning("refused at the page of approvals: %s (%s)", escape(why), escape(what))

    async def _on_sign_in_refused(self, request: Request, error: Exception) -> Response:
        await self._record(request, str(error))
        return self._say(403, "You are not signed in", [f"It was refused: {error}."], _HOME)

    async def _on_http_error(self, request: Request, error: Exception) -> Response:  # noqa: ARG002
        assert isinstance(error, HTTPException)
        return self._say(
            error.status_code, _HEADINGS.get(error.status_code, "That does not work"), [error.detail], _HOME
        )

    async def _on_state_error(self, request: Request, error: Exception) -> Response:  # noqa: ARG002
        _log.warning("the inbox cannot be used: %s", escape(str(error)))
        return self._say(
            503,
            "The inbox cannot be reached",
            [f"{error}.", "It is not known whether something was done."],
            _HOME,
        )

    async def _on_error(self, request: Request, error: Exception) -> Response:  # noqa: ARG002
        return self._say(500, "The page failed", ["Its log says why."], _HOME)

    def _say(
        self, status: int, heading: str, sentences: Sequence[str] = (), link: tuple[str, str] | None = None
    ) -> HTMLResponse:
        return HTMLResponse(self._views.message(heading, sentences, link), status)

    async def _html(self, render: Callable[..., str], *values: object, status: int = 200) -> HTMLResponse:
        """Render in a thread: arguments can be large."""
        return HTMLResponse(await asyncio.to_thread(render, *values), status)


def _by_get_alone(route: BaseRoute) -> BaseRoute:
    """Return a route of a sign-in that HEAD does not reach: a program that checks links would use them up."""
    if isinstance(route, Route) and route.methods is not None:
        route.methods.discard("HEAD")
    return route


def _id(request: Request) -> str:
    """Return the id in the path; one that is too long is that of no question."""
    found: str = request.path_params["id"]
    return found if len(found) <= _LONGEST_ID else ""
