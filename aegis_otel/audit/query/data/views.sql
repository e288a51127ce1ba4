-- The views beside `audit`: after `--` the name and the meaning of each, then its query. `{hour}` and `{answer}`
-- are expressions of audit/query/views.py.

-- decisions_by_rule: calls by rule and result; a rule whose risk or approval was changed has a row for each version
SELECT matched_rule, risk_level, approval, count(*) AS calls,
    count(*) FILTER (result_status = 'success') AS succeeded,
    count(*) FILTER (result_status = 'failed') AS failed,
    count(*) FILTER (result_status = 'blocked') AS blocked,
    count(*) FILTER (result_status = 'denied') AS denied,
    min("timestamp") AS first_seen, max("timestamp") AS last_seen
FROM audit GROUP BY matched_rule, risk_level, approval ORDER BY calls DESC, matched_rule

-- approvals: calls with a question to a human, answered or not
SELECT decision_id, "timestamp", agent_name, action_type, action_target, action_params, risk_level,
    matched_rule, human_decision, approver, approval_reason, approval_wait_s, result_status
FROM audit WHERE {answer} IS NOT NULL

-- decisions_by_hour: calls by hour, risk and result
SELECT {hour} AS hour, risk_level, result_status, count(*) AS calls
FROM audit GROUP BY ALL ORDER BY hour, risk_level, result_status

-- critical: calls of CRITICAL risk
SELECT * FROM audit WHERE risk_level = 'CRITICAL'

-- unknown_outcomes: allowed calls whose process died before it recorded their outcome
SELECT * FROM audit WHERE result_status = 'unknown'

-- policy_versions: policies that decided calls, and when
SELECT policy_digest, min("timestamp") AS first_seen, max("timestamp") AS last_seen,
    count(*) AS calls, count(DISTINCT matched_rule) AS rules,
    count(*) FILTER (approval = 'block') AS blocked
FROM audit GROUP BY policy_digest ORDER BY first_seen

-- policy_changes: changes of policy: starts, reloads, refused files, stops, and tools that cannot be governed
FROM journal.policy_change ORDER BY "timestamp"
