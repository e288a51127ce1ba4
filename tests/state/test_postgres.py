"""The PostgreSQL engine: its schema, rights, lost connections, and what it says where it cannot work."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from aegis_otel.cli import main
from aegis_otel.errors import ConfigError, StateError
from aegis_otel.governance.approvals.inbox import GrantTerms
from aegis_otel.model import Mark, SeriesQuery
from aegis_otel.state.engine import Salt
from aegis_otel.state.inbox import StateInbox
from aegis_otel.state.opening import open_state
from aegis_otel.state.postgres import PostgresState
from aegis_otel.state.schema import VERSION, migration
from tests.support.inbox import an_answer, shared_question, unsigned
from tests.support.pages import blocks_of, read_page
from tests.support.postgres import Server, wait_for
from tests.support.records import python
from tests.support.state import HOUR, mark_one, take, tally

PROGRAM = """
import os, sys, time
from aegis_otel.errors import StateError
from aegis_otel.state.postgres import PostgresState
from tests.support.state import mark_one, take, tally
state = PostgresState(sys.argv[1])
"""


@pytest.fixture
def state(server: Server) -> Iterator[PostgresState]:
    made = PostgresState(server.address())
    yield made
    made.close()


def failure(state: PostgresState, within_s: float = 8.0) -> str:
    """What is said, by every method alike; and nothing takes long."""
    said = set()
    began = time.monotonic()
    calls: list[Callable[[], object]] = [
        lambda: mark_one(state, "d", "a"),
        lambda: state.read([]),
        lambda: state.settle("d", None),
        state.inspect,
    ]
    for call in calls:
        with pytest.raises(StateError) as raised:
            call()
        said.add(str(raised.value))
    assert time.monotonic() - began < within_s
    (message,) = said
    return message


def test_no_name_is_in_it(server: Server, state: PostgresState) -> None:
    """The values by which calls are counted are digests with a salt of the store's own."""
    mark_one(state, "d", "repeats order_id=order-12345 user=ann@example.com", run="run-of-ann")
    text = str(server.run("SELECT mark::text FROM aegis.mark"))
    assert "ann" not in text
    assert "order" not in text
    digests = server.run("SELECT series FROM aegis.mark")
    server.run("DROP SCHEMA aegis CASCADE")
    other = PostgresState(server.address())
    mark_one(other, "d", "repeats order_id=order-12345 user=ann@example.com")
    assert server.run("SELECT series FROM aegis.mark") != digests
    other.close()


def test_many_processes_make_the_schema_at_once(server: Server) -> None:
    code = PROGRAM + "print(sum(take(state, f'{sys.argv[2]}-{k}', 'a', 20) for k in range(10)))"
    children = [python(code, server.address(), n) for n in range(6)]
    found = [child.communicate() for child in children]
    assert [err for _, err in found] == [""] * 6
    assert sum(int(out) for out, _ in found) == 20
    assert server.run("SELECT count(*), max(version) FROM aegis.store") == [(1, VERSION)]


def test_a_newer_schema_stays_as_it_is(server: Server, state: PostgresState) -> None:
    mark_one(state, "d", "a")
    state.close()
    server.run("UPDATE aegis.store SET version = 9")
    assert f"was made by a newer aegis-otel (schema version 9, and this one knows {VERSION})" in failure(
        state
    )
    assert server.run("SELECT version FROM aegis.store") == [(9,)]


def test_a_store_of_the_first_version(server: Server, state: PostgresState) -> None:
    """Its marks stay, and it gets what is new, once, whoever opens it first."""
    first = ";".join(["CREATE SCHEMA aegis", *migration("postgres", 1)])
    server.run(f"{first}; INSERT INTO aegis.store VALUES (1, '{'s' * 32}')")
    server.run(
        f"INSERT INTO aegis.mark VALUES ('\\x{Salt(b's' * 32).digest('a').hex()}', now(), 'd', 0, now() + "
        "interval '1 hour', NULL, NULL)"
    )
    code = PROGRAM + "print(tally(state, 'a').calls)"
    children = [python(code, server.address()) for _ in range(4)]
    assert [child.communicate() for child in children] == [("1\n", "")] * 4
    assert server.run("SELECT version FROM aegis.store") == [(VERSION,)]
    inbox = StateInbox(state)
    assert inbox.find(inbox.put(shared_question("one")).question.call_digest)


def test_a_schema_of_somebody_else(server: Server, state: PostgresState) -> None:
    """With tables of its own, and the names of ours."""
    server.run("CREATE SCHEMA aegis; CREATE TABLE aegis.store (x int); INSERT INTO aegis.store VALUES (7)")
    assert "column" in failure(state)
    assert server.run("SELECT * FROM aegis.store") == [(7,)]


INBOX_RIGHTS = """
DROP ROLE IF EXISTS agent; CREATE ROLE agent LOGIN;
DROP ROLE IF EXISTS approvals; CREATE ROLE approvals LOGIN;
GRANT USAGE ON SCHEMA aegis TO agent, approvals;
GRANT SELECT ON aegis.store TO agent, approvals;
GRANT SELECT, INSERT, UPDATE, DELETE ON aegis.question TO agent;
GRANT SELECT, UPDATE, DELETE ON aegis.question TO approvals;
GRANT SELECT, DELETE ON aegis.answer, aegis.approval_grant, aegis.refused_answer TO agent;
GRANT SELECT, INSERT, UPDATE, DELETE ON aegis.answer, aegis.approval_grant TO approvals;
GRANT SELECT, INSERT, DELETE ON aegis.refused_answer TO approvals;
GRANT SELECT, UPDATE ON aegis.inbox_change TO agent, approvals;
GRANT SELECT, INSERT, UPDATE, DELETE ON aegis.used_call TO agent;
GRANT SELECT, DELETE ON aegis.used_call TO approvals;
"""


def test_least_rights_for_questions(server: Server, state: PostgresState) -> None:
    """With what docs/state.md grants, agents ask and use answers, and only the page can write them."""
    document = (Path(__file__).parents[2] / "docs" / "state.md").read_text()
    assert all(line in document for line in INBOX_RIGHTS.splitlines() if line.startswith("GRANT"))
    state.inspect()
    server.run(INBOX_RIGHTS)
    states = [PostgresState(server.address(user)) for user in ("agent", "approvals")]
    agent, page = (StateInbox(each) for each in states)
    asked = agent.put(shared_question(expires_s=60.0, kind="inbox"))
    answer = an_answer(asked, grant=GrantTerms())
    with pytest.raises(StateError, match="denies this to the role"):
        agent.answer(unsigned(answer), answer)
    assert [each.digest for each in page.listing()] == [asked.digest]
    page.answer(unsigned(answer), answer)
    page.refuse(asked.question.decision_id, "mallory", "no")
    with pytest.raises(StateError, match="denies this to the role"):  # so it uses up no place of a real one
        agent.refuse(asked.question.decision_id, "ann", "no")
    assert agent.use(asked.question.decision_id, asked.digest, "host")
    (grant,) = agent.grants(asked.question.grant_key, "key of conversation")
    assert page.revoke(grant.grant_id, "bob")
    agent.put(asked.question)  # anew, so what belongs to the first one is removed
    saved = agent.put(shared_question())
    assert agent.use(saved.question.decision_id, saved.digest, "host")
    for _ in range(2):
        assert agent.take_call("a call", "a decision", 1 << 61, "host")
    for inbox in (agent, page):
        assert inbox.expire() == ()
        assert inbox.counts().by_status == {"waiting": 1, "used": 1}
    for each in states:
        each.close()


LEAST_RIGHTS = """
DROP ROLE IF EXISTS agent; CREATE ROLE agent LOGIN;
GRANT USAGE ON SCHEMA aegis TO agent;
GRANT SELECT ON aegis.store TO agent;
GRANT SELECT, INSERT, UPDATE, DELETE ON aegis.mark TO agent;
"""


def test_least_rights(server: Server, state: PostgresState) -> None:
    """With what docs/state.md grants, everything works; without, the error says where to read on."""
    document = (Path(__file__).parents[2] / "docs" / "state.md").read_text()
    assert all(line in document for line in LEAST_RIGHTS.splitlines() if line.startswith("GRANT"))
    state.inspect()
    server.run(LEAST_RIGHTS)
    agent = PostgresState(server.address("agent"))
    assert take(agent, "d", "a", 1)
    assert not take(agent, "d2", "a", 1)
    mark_one(agent, "d3", "tokens", run="r")
    agent.settle("d", "success")
    for number in range(64):
        agent.settle(f"d{number}", None)
    assert agent.inspect().marks == 2
    server.run("REVOKE INSERT ON aegis.mark FROM agent")
    with pytest.raises(
        StateError, match=r"denies this to the role: docs/state.md says which rights it needs"
    ):
        mark_one(agent, "d", "a")
    agent.close()
    server.run("DROP SCHEMA aegis CASCADE; REVOKE CREATE ON DATABASE agents FROM PUBLIC")
    message = failure(PostgresState(server.address("agent")))
    assert "denies this to the role" in message


def test_an_owner_who_may_make_no_roles(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/approvals-production.md says, `aegis doctor` makes the schema; others make roles."""
    statements = [
        each.strip()
        for block in blocks_of(read_page("state.md"))
        if block.language == "sql"
        for each in block.text.split(";")
        if each.strip()
    ]
    roles = [each for each in statements if each.startswith("CREATE ROLE")]
    server.run("DROP ROLE IF EXISTS agent; DROP ROLE IF EXISTS approvals; DROP ROLE IF EXISTS owner")
    server.run("CREATE ROLE owner LOGIN; ALTER DATABASE agents OWNER TO owner")
    try:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("AEGIS_STATE", server.address("owner"))
        ran = CliRunner().invoke(main, ["doctor"])
        assert ran.exit_code == 1
        assert re.search(r"^ok +state: PostgreSQL at .* can be read and written", ran.output, re.MULTILINE)
        assert "no policy" in ran.output
        for each in roles:
            server.run(each)
        with psycopg.connect(server.address("owner"), autocommit=True) as owner:
            with pytest.raises(
                psycopg.errors.InsufficientPrivilege, match="permission denied to create role"
            ):
                owner.execute("CREATE ROLE other")
            for each in statements:
                if each not in roles:
                    owner.execute(each.encode())
        for user in ("agent", "approvals"):
            state = PostgresState(server.address(user))
            StateInbox(state).inspect()
            state.close()
    finally:
        server.run("DROP SCHEMA IF EXISTS aegis CASCADE; ALTER DATABASE agents OWNER TO postgres")


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_schema_that_another_role_has_made_before(server: Server, is_whole: bool) -> None:
    """A role that may only make schemas resets no limit, and gets no rights by a trigger or a view."""
    server.run("DROP ROLE IF EXISTS tool; CREATE ROLE tool; GRANT CREATE ON DATABASE agents TO tool")
    made = migration("postgres", 1) if is_whole else []
    trap = """
    INSERT INTO aegis.store VALUES (0, '');
    CREATE FUNCTION aegis.f() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN DELETE FROM aegis.mark; ALTER ROLE tool SUPERUSER; RETURN NULL; END$$;
    CREATE TRIGGER t AFTER UPDATE ON aegis.store EXECUTE FUNCTION aegis.f();
    CREATE TRIGGER t AFTER INSERT ON aegis.mark EXECUTE FUNCTION aegis.f()
    """
    try:
        server.run("; ".join(["SET ROLE tool", "CREATE SCHEMA aegis", *made, *([trap] if is_whole else [])]))
        message = failure(PostgresState(server.address()))
        assert "belongs to the role `tool`, which is neither this program's nor the owner" in message
        assert server.run("SELECT rolsuper FROM pg_roles WHERE rolname = 'tool'") == [(False,)]
    finally:
        server.run("DROP OWNED BY tool CASCADE; DROP ROLE tool")


@pytest.mark.parametrize("owner", ["superuser", "itself", "in the role that owns the database"])
def test_who_may_make_the_schema(server: Server, owner: str) -> None:
    server.run(
        "DROP ROLE IF EXISTS maker; CREATE ROLE maker LOGIN; DROP ROLE IF EXISTS owners; CREATE ROLE owners"
    )
    server.run("DROP ROLE IF EXISTS agent; CREATE ROLE agent LOGIN; GRANT CREATE ON DATABASE agents TO maker")
    server.run(
        "GRANT owners TO maker; ALTER DATABASE agents OWNER TO owners" if owner.startswith("in") else ""
    )
    try:
        first = PostgresState(server.address("postgres" if owner == "superuser" else "maker"))
        first.inspect()
        first.close()
        server.run(LEAST_RIGHTS)
        other = PostgresState(server.address("maker" if owner == "itself" else "agent"))
        assert take(other, "d", "a", 1)
        other.close()
    finally:
        server.run(
            "ALTER DATABASE agents OWNER TO postgres; DROP OWNED BY maker CASCADE; DROP ROLE maker, owners"
        )


@pytest.mark.parametrize(
    "script",
    [
        "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN DELETE FROM aegis.mark; RETURN NULL; END$$; "
        "CREATE TRIGGER t AFTER INSERT ON aegis.mark EXECUTE FUNCTION public.f()",
        "CREATE RULE r AS ON INSERT TO aegis.mark DO INSTEAD NOTHING",
        "ALTER TABLE aegis.mark ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE aegis.mark RENAME TO other; CREATE VIEW aegis.mark AS SELECT * FROM aegis.other",
        "ALTER TABLE aegis.store RENAME TO other; CREATE VIEW aegis.store AS SELECT * FROM aegis.other",
        "CREATE TABLE public.child () INHERITS (aegis.mark)",
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; "
        "ALTER TABLE aegis.mark ADD COLUMN x int DEFAULT public.f()",
        "ALTER TABLE aegis.mark ADD CHECK (amount >= 0)",
        "CREATE DOMAIN public.kind AS bytea; ALTER TABLE aegis.mark ALTER COLUMN series TYPE public.kind",
        "CREATE FUNCTION public.f(bigint) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'; "
        "CREATE INDEX ON aegis.mark (public.f(amount))",
        "CREATE INDEX ON aegis.mark (amount) WHERE amount > 0",
    ],
)
def test_tables_that_were_changed(server: Server, state: PostgresState, script: str) -> None:
    """They are not used by whoever connects next."""
    mark_one(state, "d", "a")
    state.close()
    server.run(script)
    try:
        assert "have triggers, rules or other things that aegis-otel did not give them" in failure(state)
    finally:
        server.run(
            "DROP SCHEMA aegis CASCADE; DROP FUNCTION IF EXISTS public.f; DROP DOMAIN IF EXISTS public.kind; "
            "DROP TABLE IF EXISTS public.child"
        )


@pytest.mark.parametrize(
    "script",
    [
        "DELETE FROM aegis.store",
        "INSERT INTO aegis.store VALUES (1, '')",
        "UPDATE aegis.store SET salt = ''",
        "ALTER TABLE aegis.store ALTER salt TYPE text",
        "ALTER TABLE aegis.store ALTER version TYPE text",
    ],
)
def test_a_store_that_was_changed(server: Server, state: PostgresState, script: str) -> None:
    mark_one(state, "d", "a")
    state.close()
    server.run(script)
    assert "has no longer the one " in failure(state)


def test_what_a_database_administrator_may_add(server: Server, state: PostgresState) -> None:
    """An index or a key on columns runs nothing of somebody else."""
    mark_one(state, "d", "a")
    state.close()
    server.run("CREATE INDEX ON aegis.mark (amount); ALTER TABLE aegis.store ADD PRIMARY KEY (version)")
    assert tally(state, "a").calls == 1


PLANTED = """
GRANT CREATE ON SCHEMA public TO PUBLIC; SET ROLE tool;
CREATE FUNCTION public.unnest(bigint[]) RETURNS SETOF bigint LANGUAGE plpgsql AS
$$BEGIN IF current_user = 'agent' THEN DELETE FROM aegis.mark; END IF; RETURN; END$$;
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
AS $$SELECT timestamptz '2200-01-01'$$;
CREATE FUNCTION public.less(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR public.>= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = public.less);
"""


def test_functions_of_the_same_name_are_not_called(server: Server, state: PostgresState) -> None:
    """What a role without any right to our schema has put where PostgreSQL would find it first."""
    state.inspect()
    server.run(LEAST_RIGHTS)
    server.run("DROP ROLE IF EXISTS tool; CREATE ROLE tool")
    server.run("ALTER ROLE agent SET search_path = public, pg_catalog")
    try:
        server.run(PLANTED)
        agent = PostgresState(server.address("agent"))
        taken = [take(agent, f"d{number}", "a", 2) for number in range(4)]
        assert taken == [True, True, False, False]
        agent.settle("d0", "success")
        assert tally(agent, "a").succeeded == 1
        agent.close()
    finally:
        server.run("DROP OWNED BY tool; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        server.run("ALTER ROLE agent RESET ALL")


def test_a_standby(server: Server) -> None:
    """Whatever is read-only says so."""
    state = PostgresState(server.address())
    mark_one(state, "d", "a")
    state.close()
    server.run("ALTER DATABASE agents SET default_transaction_read_only = on")
    try:
        for action in (lambda: mark_one(state, "d2", "a"), lambda: state.settle("d", None), state.inspect):
            with pytest.raises(StateError, match="is read-only, as a standby is"):
                action()  # type: ignore[no-untyped-call]
    finally:
        server.run("ALTER DATABASE agents RESET ALL", "postgres")
        state.close()


def test_the_isolation_of_the_database_does_not_matter(server: Server) -> None:
    """A stricter one would show what there was before the lock was taken, and let too many through."""
    server.run("ALTER DATABASE agents SET default_transaction_isolation = 'serializable'")
    try:
        state = PostgresState(server.address())
        taken: list[bool] = []
        threads = [
            threading.Thread(target=lambda n=n: taken.append(take(state, f"d{n}", "a", 5))) for n in range(30)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(taken), sum(taken)) == (30, 5)
        state.close()
    finally:
        server.run("ALTER DATABASE agents RESET ALL")


def test_connections_that_were_cut_off(server: Server, state: PostgresState) -> None:
    """Idle ones are replaced without a word, as after a restart of the server."""
    mark_one(state, "d", "a")
    server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aegis-otel'")
    assert tally(state, "a").calls == 1
    for action in (lambda: mark_one(state, "d2", "a"), lambda: state.settle("d2", "success"), state.inspect):
        server.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aegis-otel'"
        )
        action()  # type: ignore[no-untyped-call]
    assert (tally(state, "a").calls, tally(state, "a").succeeded) == (2, 1)


def test_a_connection_that_is_cut_off_while_it_decides(server: Server, state: PostgresState) -> None:
    """Nobody knows whether the marks were kept, so it is an error; here they were not."""

    def decide(tallies: object) -> list[Mark]:
        server.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aegis-otel'"
        )
        return [Mark("a", keep_s=HOUR)]

    with pytest.raises(StateError, match="lost the connection to `postgresql://postgres@"):
        state.judge("d", [SeriesQuery("a", HOUR)], decide)
    assert tally(state, "a").calls == 0
    assert take(state, "d2", "a", 1)


def test_a_series_that_is_locked_for_ever(server: Server, state: PostgresState) -> None:
    """Only decisions about that series wait, and no longer than two seconds."""
    entered, leave = threading.Event(), threading.Event()

    def decide(tallies: object) -> list[Mark]:
        entered.set()
        leave.wait(30)
        return []

    holder = threading.Thread(target=lambda: state.judge("d", [SeriesQuery("a", HOUR)], decide))
    holder.start()
    entered.wait()
    began = time.monotonic()
    with pytest.raises(StateError, match="was busy for 2 seconds: see who holds its locks"):
        take(state, "d2", "a", 1)
    assert 1.9 < time.monotonic() - began < 30
    began = time.monotonic()
    assert take(state, "d3", "b", 1)
    assert time.monotonic() - began < 1.9
    leave.set()
    holder.join()
    assert take(state, "d4", "a", 1)


def test_a_server_that_is_stopped_and_comes_back(own_server: Server) -> None:
    """While it is stopped everything is refused at once; afterwards all goes on, with what was marked."""
    state = PostgresState(own_server.address())
    assert take(state, "d1", "a", 2)
    own_server.stop("immediate")
    message = failure(state, within_s=4.0)
    assert message.startswith(f"cannot connect to `postgresql://postgres@{own_server.folder}/agents`: ")
    assert message.endswith("start the server, or correct `AEGIS_STATE`")
    own_server.start()
    wait_for(own_server)
    assert take(state, "d2", "a", 2)
    assert not take(state, "d3", "a", 2)
    state.close()


def test_a_server_that_is_silent(own_server: Server) -> None:
    """It keeps its connections and answers nothing: said within seconds, also to whoever comes next."""
    state = open_state(own_server.address())
    mark_one(state, "d", "a")
    own_server.freeze()
    try:
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(StateError):
                mark_one(state, "d", "a")
        assert time.monotonic() - began < 30
    finally:
        own_server.go_on()
    time.sleep(5)  # for so long the last failure counts
    assert tally(state, "a").calls >= 1
    state.close()


def test_a_server_that_goes_on_talking_without_an_answer() -> None:
    """What it sends now and then gives it no more time: else it could hold a call for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=talk, args=[listener], daemon=True).start()
        port = listener.getsockname()[1]
        state = PostgresState(f"postgresql://me@127.0.0.1:{port}/db?sslmode=disable&gssencmode=disable")
        said: list[str] = []

        def ask() -> None:
            try:
                state.read([])
            except StateError as error:
                said.append(str(error))

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(15)
    assert said == [
        f"lost the connection to `postgresql://me@127.0.0.1:{port}/db`: no answer for 2.5 seconds; "
        "see whether it runs"
    ]


def talk(listener: socket.socket) -> None:
    """Let the first client in, and then send it notices and nothing else."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!I", len(body) + 4) + body

    client, _ = listener.accept()
    with client, suppress(OSError):
        client.recv(4096)
        client.sendall(
            message(b"R", struct.pack("!I", 0))
            + message(b"S", b"server_version\x0016.0\0")
            + message(b"S", b"client_encoding\0UTF8\0")
            + message(b"Z", b"I")
        )
        while True:
            client.sendall(message(b"N", b"SNOTICE\0C00000\0Mwait\0\0"))
            time.sleep(0.05)


def test_no_server(tmp_path: Path) -> None:
    state = PostgresState(f"postgresql://me:hunter2@/agents?host={tmp_path}")
    message = failure(state, within_s=4.0)
    assert f"cannot connect to `postgresql://me@{tmp_path}/agents`: " in message
    assert "?" not in message, "what libpq asks"
    assert "hunter2" not in message + repr(state)


def test_a_password_is_never_shown(server: Server) -> None:
    """Neither a right one nor a wrong one, in no message, cause or repr."""
    server.run("DROP ROLE IF EXISTS secretive; CREATE ROLE secretive LOGIN PASSWORD 'hunter2'")
    state = PostgresState(server.address("secretive", "hunter3"))
    with pytest.raises(StateError, match="password authentication failed") as raised:
        state.read([])
    assert raised.value.__cause__ is None
    assert "hunter" not in f"{raised.value!r} {raised.value} {state!r}"
    server.run("GRANT CREATE ON DATABASE agents TO secretive")
    right = PostgresState(server.address("secretive", "hunter2"))
    assert "hunter" not in right.inspect().place + repr(right) + repr(list(right._idle))
    right.close()


@pytest.mark.parametrize(
    "address",
    [
        *("postgresql://me:hunt@er2@here/db", "postgresql://me:hunt/er2@here/db"),
        *("postgresql://me:hunt?er2@here/db", "postgresql://me:hunt#er2@here/db"),
        *("postgresql://me:hunter2%zz@here/db", "postgresql://me:x@here:hunter2x/db?hunter2"),
        "postgresql://me:x@here/db?no_such_option=hunter2",
    ],
)
def test_an_address_that_is_read_in_two_ways(address: str) -> None:
    """It is refused before PostgreSQL's library can name a part of the password as a host."""
    with pytest.raises((ConfigError, StateError), match="percent-encoding") as raised:
        open_state(address).read([])
    assert "er2" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_an_amount_that_no_column_holds(state: PostgresState) -> None:
    with pytest.raises(StateError):
        mark_one(state, "d", "a", amount=10**30)
    assert tally(state, "a").calls == 0


FORK = """
take(state, "before", "a", 100)
children = []
for n in range(5):
    child = os.fork()
    if child == 0:
        for k in range(30):
            take(state, f"{n}-{k}", "a", 100)
        sys.exit(0)
    children.append(child)
for k in range(30):
    take(state, f"parent-{k}", "a", 100)
print([os.waitpid(child, 0)[1] for child in children], tally(state, "a").calls)
"""


def test_after_a_fork(server: Server) -> None:
    """Children use connections of their own, and end none of their parent's."""
    assert python(PROGRAM + FORK, server.address()).communicate() == ("[0, 0, 0, 0, 0] 100\n", "")


FORK_IN_DECIDE = """
def decide(tallies):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return [Mark("a", keep_s=60.0)]
parent = os.getpid()
from aegis_otel.model import Mark
try:
    state.judge("d", [], decide)
except StateError as error:
    print(error, flush=True)
if os.getpid() != parent:
    print(take(state, "child", "a", 5), flush=True)
    state.close()
    sys.exit()
print(take(state, "parent", "a", 5), tally(state, "a").calls, flush=True)
"""


def test_a_fork_in_the_middle_of_a_decision(server: Server) -> None:
    """The child leaves its parent's session alone, and has one of its own for what it decides next."""
    out, err = python(PROGRAM + FORK_IN_DECIDE, server.address()).communicate()
    assert err == ""
    said, *taken = out.splitlines()
    assert "this process was forked in the middle of a decision" in said
    assert taken == ["True", "True 3"]


FORK_AND_CLOSE = """
mark_one(state, "d", "a")
session = state._idle[0].info.backend_pid
child = os.fork()
if child == 0:
    state.close()
    sys.exit(0)
os.waitpid(child, 0)
mark_one(state, "d2", "a")
print(state._idle[0].info.backend_pid == session)
"""


def test_a_child_that_closes_the_state_ends_no_session_of_its_parent(server: Server) -> None:
    assert python(PROGRAM + FORK_AND_CLOSE, server.address()).communicate() == ("True\n", "")


@pytest.mark.parametrize("options", ["", "&options=-c%20work_mem%3D1MB%20-c%20search_path%3Dpublic"])
def test_what_an_address_says_of_a_session_leaves_the_rest(server: Server, options: str) -> None:
    state = PostgresState(server.address() + options)
    state.read([])
    connection = state._idle[0]
    shown = "SELECT current_setting(%s)"
    found = [
        connection.execute(shown, [name]).fetchone()
        for name in ("statement_timeout", "work_mem", "search_path")
    ]
    assert found == [("2s",), ("1MB" if options else "4MB",), ("pg_catalog, pg_temp",)]
    state.close()


def test_connections_that_are_all_in_use(server: Server, state: PostgresState) -> None:
    """A decision waits two seconds for one of them, and no longer."""
    leave = threading.Event()
    entered = threading.Semaphore(0)

    def decide(tallies: object) -> list[Mark]:
        entered.release()
        leave.wait(30)
        return []

    holders = [threading.Thread(target=lambda n=n: state.judge(f"d{n}", [], decide)) for n in range(4)]
    for holder in holders:
        holder.start()
    for _ in holders:
        entered.acquire()
    began = time.monotonic()
    with pytest.raises(StateError, match="4 connections of this process were in use for 2 seconds"):
        mark_one(state, "d", "a")
    assert 1.9 < time.monotonic() - began < 30
    leave.set()
    for holder in holders:
        holder.join()
    mark_one(state, "d", "a")


def test_a_server_that_takes_no_more_connections(server: Server, state: PostgresState) -> None:
    """Refused at once, and again taken at once when there is room."""
    server.run("DROP ROLE IF EXISTS narrow; CREATE ROLE narrow LOGIN CONNECTION LIMIT 1")
    server.run("GRANT CREATE ON DATABASE agents TO narrow")
    first, second = (PostgresState(server.address("narrow")) for _ in range(2))
    mark_one(first, "d", "a")
    assert "too many connections for role" in failure(second, within_s=4.0)
    first.close()
    until = time.monotonic() + 10
    while True:
        try:
            assert tally(second, "a").calls == 1
            break
        except StateError:
            assert time.monotonic() < until
    second.close()
    server.run("DROP SCHEMA aegis CASCADE; DROP OWNED BY narrow; DROP ROLE narrow")


def test_connections_are_few(server: Server, state: PostgresState) -> None:
    threads = [
        threading.Thread(target=lambda n=n: [take(state, f"{n}-{k}", f"s{n}", 9) for k in range(10)])
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'aegis-otel'"
    assert server.run(counted) == [(4,)]
    state.close()
    until = time.monotonic() + 10
    while server.run(counted) != [(0,)]:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_without_psycopg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said when it is first used, and how to get it."""
    (tmp_path / "psycopg.py").write_text("raise ImportError('No module named psycopg')")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from aegis_otel.errors import StateError
from aegis_otel.state.opening import open_state
state = open_state("postgresql://me:hunter2@here/db")
try:
    state.read([])
except StateError as error:
    print(error)
"""
    out, err = python(code, tmp_path).communicate()
    assert err == ""
    assert "needs `psycopg` (No module named psycopg): run `pip install 'aegis-otel[postgres]'`" in out
    assert "hunter2" not in out
