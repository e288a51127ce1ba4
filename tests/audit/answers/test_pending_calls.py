"""Paused calls, found in the journal: by whom they were written, how often they were answered, once only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aegis_otel import AuditError
from aegis_otel.audit.answers import usable_lines
from aegis_otel.audit.answers.pending_calls import taking_over
from aegis_otel.audit.lake.sealing import seal
from aegis_otel.audit.record import AuditRecord, decode
from aegis_otel.audit.seals import seal_log as seals_module
from aegis_otel.audit.seals.seal_log import Seal, decode_seal
from aegis_otel.runtime.audit import AuditLogger


def line(stage: str, second: int, decision: str = "d1", **columns: Any) -> AuditRecord:
    moment = f"2026-01-01T00:00:{second:02d}.000000+00:00"
    return AuditRecord(stage=stage, decision_id=decision, timestamp=moment, **columns)  # type: ignore[arg-type]


def asked(second: int = 0, decision: str = "d1", **columns: Any) -> AuditRecord:
    known = {"tool_call_id": "c1", "args_digest": "x", "agent_name": "Clerk", "result_status": "pending"}
    return line("decided", second, decision, **known | columns)


def approved(audit: AuditLogger, second: int, decision: str = "d1", **columns: Any) -> AuditRecord:
    """A yes to the question of `asked`, with its proof."""
    answer = line("resolved", second, decision, human_decision="approved", result_status="pending", **columns)
    answer.proof = audit.prove(asked(decision=decision), answer)
    return answer


@pytest.fixture
def audits(tmp_path: Path) -> list[AuditLogger]:
    """Three writers of one audit."""
    return [AuditLogger(tmp_path / "audit") for _ in range(3)]


def test_found_by_its_id_across_writers(audits: list[AuditLogger]) -> None:
    one, two, three = audits
    one.append(asked(1, "later"))
    two.append(asked(0, "first"))
    one.append(asked(2, "other", tool_call_id="c2"))
    one.append(asked(3, "ended", tool_call_id='c1"'))
    three.append(approved(three, 4, "later", approver="alice"))
    found = three.waiting("c1")
    assert [(each.row.decision_id, each.answer) for each in found] == [("first", None), ("later", "approved")]
    assert found[1].row.approver == "alice"
    assert found[1].row.timestamp == asked(1).timestamp
    assert [each.row.decision_id for each in three.waiting('c1"')] == ["ended"]
    assert three.waiting("c3") == []


def test_an_audit_without_a_journal(tmp_path: Path) -> None:
    audit = AuditLogger(tmp_path / "audit")
    assert audit.waiting("c1") == []
    with pytest.raises(AuditError, match="journal"):
        audit.take_over(asked())


def test_the_last_question_counts(audits: list[AuditLogger]) -> None:
    """Asked again after a yes, it is unanswered, whoever wrote the lines in whatever order."""
    one, two, _ = audits
    two.append(line("resolved", 2, result_status="pending", matched_rule="stricter"))
    one.append(approved(one, 1))
    one.append(asked())
    (found,) = one.waiting("c1")
    assert (found.answer, found.row.matched_rule) == (None, "stricter")
    assert one.take_over(asked(3)) is None


@pytest.mark.parametrize(
    "other",
    [
        {"args_digest": "y"},
        {"agent_name": "Boss"},
        {"tool_call_id": "c2"},
        {"args_digest": None},
        {"tool_name": "other"},
        {"action_type": "other"},
        {"action_target": "other"},
    ],
)
def test_another_call_takes_nothing(audits: list[AuditLogger], other: dict[str, Any]) -> None:
    one, two, _ = audits
    one.append(asked())
    one.append(approved(one, 1))
    assert two.take_over(asked(2, "new", **other)) is None
    assert len(one.waiting("c1")) == 1


def test_a_call_without_a_digest_is_never_taken(audits: list[AuditLogger]) -> None:
    one, two, _ = audits
    question = asked(args_digest=None)
    one.append(question)
    answer = approved(one, 1)
    answer.proof = one.prove(question, answer)
    one.append(answer)
    assert two.take_over(asked(2, "new", args_digest=None)) is None


def test_taken_once(audits: list[AuditLogger]) -> None:
    """Of many that resume one approved call at once, one gets it."""
    audits[0].append(asked())
    assert audits[0].take_over(asked(1)) is None, "nobody has said yes"
    audits[0].append(approved(audits[0], 1))
    with ThreadPoolExecutor(12) as pool:
        taken = list(pool.map(lambda n: audits[n % 3].take_over(asked(2, f"new{n}")), range(24)))
    (found,) = [each for each in taken if each is not None]
    assert found.row.decision_id == "d1"
    assert audits[1].waiting("c1") == []
    (row,) = audits[2].get_log()
    assert (row["result_status"], row["human_decision"]) == ("open", "approved")


def test_who_takes_keeps_others_waiting(audits: list[AuditLogger]) -> None:
    """Between finding a call and taking it nobody else may find it."""
    audits[0].append(asked())
    audits[0].append(approved(audits[0], 1))
    with ThreadPoolExecutor(1) as pool:
        with taking_over(audits[0].path):
            late = pool.submit(audits[1].take_over, asked(2, "new"))
            with pytest.raises(TimeoutError):
                late.result(timeout=0.2)
            audits[0].append(line("resolved", 2, result_status="open"))
        assert late.result(timeout=10) is None


def test_a_body_that_has_begun_goes_on(audits: list[AuditLogger]) -> None:
    """The duration tells that the human is asked about a call inside of this one."""
    one, two, _ = audits
    one.append(asked(result_status="open"))
    assert one.waiting("c1") == []
    one.append(line("resolved", 1, result_status="pending", duration_s=0.5))
    (found,) = one.waiting("c1")
    assert (found.started, found.answer) == (True, None)
    assert two.take_over(asked(2, "new")) is None, "nothing says that this call continues it"
    assert two.take_over(asked(2, "new"), inside=True) is not None


def test_a_yes_is_no_body_that_has_begun(audits: list[AuditLogger]) -> None:
    one, two, _ = audits
    one.append(asked())
    one.append(approved(one, 1))
    assert two.take_over(asked(2, "new"), inside=True) is None


def test_an_answer_holds_the_call(audits: list[AuditLogger]) -> None:
    """While it is written nobody takes the call; once the call was taken, no answer is written."""
    one, two, _ = audits
    one.append(asked())
    (found,) = one.waiting("c1")
    with ThreadPoolExecutor(1) as pool:
        with one.answering(found) as now:
            assert now == found
            late = pool.submit(two.take_over, asked(2, "new"))
            with pytest.raises(TimeoutError):
                late.result(timeout=0.2)
            one.append(approved(one, 1))
        assert late.result(timeout=10) is not None
    with pytest.raises(AuditError, match="already answered"), one.answering(found):
        pytest.fail("it waits no more")


def test_what_is_no_record_is_passed_over(audits: list[AuditLogger], tmp_path: Path) -> None:
    """Torn lines, other people's JSON, links and pipes neither hide a call nor make one up."""
    one, two, _ = audits
    one.append(asked())
    journal = tmp_path / "audit" / "journal"
    (journal / "torn.jsonl").write_text('{"stage":"decided","decision_id":"d2","tool_call_id":"c1"\n')
    (journal / "other.jsonl").write_text('[{"tool_call_id":"c1"}]\n{"tool_call_id":"c1"}\n')
    elsewhere = tmp_path / "elsewhere.jsonl"
    elsewhere.write_text(
        '{"stage":"resolved","decision_id":"d1","timestamp":"3","human_decision":"approved"}\n'
    )
    assert [each.answer for each in two.waiting("c1")] == [None]
    (journal / "link.jsonl").symlink_to(elsewhere)
    with pytest.raises(AuditError, match=r"link\.jsonl"):
        two.waiting("c1")


def test_what_is_sealed_waits_no_more(audits: list[AuditLogger], tmp_path: Path) -> None:
    """Also where the file that tells its end is removed before the one that it was carried over to."""
    one, two, _ = audits
    journal = tmp_path / "audit" / "journal"
    one.append(asked())
    one.close()
    seal(tmp_path / "audit")
    (carried,) = journal.glob("carried-*")
    assert [each.row.decision_id for each in two.waiting("c1")] == ["d1"], (
        "once, though it stands in two files"
    )
    two.append(line("resolved", 1, result_status="denied"))
    two.close()
    seal(tmp_path / "audit")
    for path in set(journal.iterdir()) - {carried}:
        path.unlink()
    assert audits[2].waiting("c1") == []


def test_it_parses_what_is_of_the_call_however_much_there_is(
    audits: list[AuditLogger], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs on an event loop: of 2,000 lines and 200 seals, those that matter."""
    one, two, _ = audits
    one.append(asked())
    for n in range(2_000):
        two.append(asked(1, f"other{n}", tool_call_id=f"call{n}"))
    two.close()
    seal(tmp_path / "audit")
    seals = tmp_path / "audit" / "seals.jsonl"
    seals.write_bytes(seals.read_bytes() * 200)
    parsed: list[bytes] = []

    def counting(path: Path, text: bytes) -> Seal:
        parsed.append(text)
        return decode_seal(path, text)

    def counting_lines(text: bytes) -> AuditRecord:
        parsed.append(text)
        return decode(text)

    for module in (seals_module, usable_lines):
        monkeypatch.setattr(module, "decode_seal", counting, raising=False)
    monkeypatch.setattr(usable_lines, "decode", counting_lines)
    assert [each.row.decision_id for each in one.waiting("c1")] == ["d1"]
    assert len(parsed) <= 4


def test_seals_that_cannot_be_read_are_said(audits: list[AuditLogger], tmp_path: Path) -> None:
    one, *_ = audits
    one.append(asked())
    (tmp_path / "audit" / "seals.jsonl").write_text('{"version":99}\n')
    with pytest.raises(AuditError, match="newer version"):
        one.waiting("c1")
    (tmp_path / "audit" / "seals.jsonl").write_text("nonsense\n")
    with pytest.raises(AuditError, match=r"is no seal .*`aegis audit verify`"):
        one.waiting("c1")
