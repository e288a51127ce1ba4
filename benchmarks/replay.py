"""Decide a million recorded calls anew: seconds and peak memory, in a process of its own.

The rows are written as one sealed segment would have them, from calls made up at random, each of which is
repeated with amounts of its own: `python benchmarks/replay.py [rows] [kinds]`. At most 60 s and 1 GB for a
million rows on two cores; under policy C, by which four of seven calls are decided by what went before them,
one after the other, at most 120 s. With `truth` as the third argument, every verdict is compared with the
policy's on the call itself instead: `python benchmarks/replay.py 200000 200000 truth`.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from aegis_otel.audit.query.connection import connect
from aegis_otel.audit.query.filters import compile_filters
from aegis_otel.governance.recording import utc
from aegis_otel.policy_tools.replay.replay import replay
from tests.support.recorded_calls import POLICY_A, POLICY_B, POLICY_C, made_calls, write_calls

COPIES = """
CREATE OR REPLACE VIEW audit AS SELECT * EXCLUDE (copy) REPLACE (
    decision_id || '-' || copy AS decision_id,
    timestamp + copy * INTERVAL 1 SECOND AS timestamp,
    CASE WHEN json_type(action_params, '$.amount') = 'UBIGINT'
        THEN json_merge_patch(action_params, json_object('amount', copy % 2000)) ELSE action_params END
        AS action_params)
FROM (SELECT * FROM made, range({copies}) AS copies(copy))
"""


def main() -> None:
    rows, kinds = (int(each) for each in (*sys.argv[1:3], *("1000000", "1000")[len(sys.argv[1:3]) :]))
    if sys.argv[3:] == ["truth"]:
        compare(rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        maker = multiprocessing.Process(target=make, args=(folder, rows, kinds))  # its memory is its own
        maker.start()
        maker.join()
        audit = connect(folder)
        audit.execute("DROP VIEW audit CASCADE")
        audit.execute(f"CREATE VIEW audit AS FROM '{folder}/rows.parquet'")
        for name, policy in (("A", POLICY_A), ("B", POLICY_B), ("C", POLICY_C)):
            begun = time.perf_counter()
            found = replay(policy, audit, compile_filters(None, {}))
            took = time.perf_counter() - begun
            different = sum(each.calls for each in found.differences)
            print(
                f"{found.calls:,} rows under {name}: {took:.1f} s; {found.same:,} alike, "
                f"{different:,} otherwise, {found.unreplayed:,} not replayed"
            )
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB (at most 1,024)")


def make(folder: str, rows: int, kinds: int) -> None:
    """Write the audit of the calls without the few that are larger than a page, and copies of it."""
    write_calls(Path(folder), list(made_calls(kinds)), POLICY_A).close()
    audit = connect(folder)
    audit.execute("CREATE TABLE made AS SELECT * FROM audit WHERE strlen(action_params) < 4096")
    audit.execute("DROP VIEW audit CASCADE")
    ((kept,),) = audit.execute("SELECT count(*) FROM made").fetchall()
    audit.execute(COPIES.format(copies=-(-rows // kept)))
    audit.execute(f"COPY audit TO '{folder}/rows.parquet'")


def compare(number: int) -> None:
    """Compare every verdict with the policy's on the call itself."""
    calls = list(made_calls(number, 3))
    with tempfile.TemporaryDirectory() as folder:
        write_calls(Path(folder), calls, POLICY_A, apart=True).close()
        for name, policy in (("A", POLICY_A), ("B", POLICY_B)):
            found = replay(policy, connect(folder), compile_filters(None, {}))
            said = {each.rule: (each.new_approval, each.new_rule) for each in found.differences}
            wrong = 0
            for index, (action, ns) in enumerate(calls, 1):
                verdict = policy.evaluate(action, now=utc(ns)).verdict
                truth = (verdict.enforced_approval.value, verdict.matched_rule)
                wrong += said.get(f"d-{index:07}", truth) != truth
            print(f"{number:,} calls under {name}: {len(said):,} replayed, {wrong} of them wrong")


if __name__ == "__main__":
    main()
