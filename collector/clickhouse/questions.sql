-- What auditors ask, in ClickHouse's SQL over the tables and views of schema.sql.

-- name: blocked
-- What was blocked, by which rule, and who wanted it?
SELECT timestamp, agent_name, tool_name, matched_rule
FROM aegis_decisions WHERE outcome = 'blocked' ORDER BY timestamp;

-- name: rules
-- What does each rule do all day?
SELECT matched_rule, risk_level, count() AS calls, countIf(outcome = 'allowed') AS allowed,
    countIf(outcome = 'approved') AS approved, countIf(outcome = 'blocked') AS blocked,
    countIf(outcome IN ('denied', 'expired')) AS denied
FROM aegis_decisions GROUP BY matched_rule, risk_level ORDER BY calls DESC, matched_rule;

-- name: critical_without_human
-- Which CRITICAL calls ran without a human's yes?
SELECT decision_id, timestamp, agent_name, tool_name, matched_rule
FROM aegis_decisions WHERE risk_level = 'critical' AND outcome = 'allowed' ORDER BY timestamp;

-- name: waits
-- How long do humans take, by where they are asked and what they say?
SELECT channel, outcome, count() AS answers, round(quantileExact(0.5)(wait_s), 3) AS p50_s,
    round(max(wait_s), 3) AS longest_s
FROM aegis_approvals GROUP BY channel, outcome ORDER BY channel, outcome;

-- name: policies
-- Which policy was in force when?
SELECT policy_digest, min(timestamp) AS first_seen, max(timestamp) AS last_seen, count() AS calls
FROM aegis_decisions GROUP BY policy_digest ORDER BY first_seen;

-- name: hours
-- When does something unusual begin?
SELECT toStartOfHour(timestamp) AS hour, count() AS calls,
    countIf(risk_level IN ('high', 'critical')) AS risky
FROM aegis_decisions GROUP BY hour ORDER BY hour;

-- name: agents
-- What does each agent want, and how much of it is refused?
SELECT agent_name, tool_name, count() AS calls, countIf(outcome NOT IN ('allowed', 'approved')) AS refused
FROM aegis_decisions GROUP BY agent_name, tool_name ORDER BY calls DESC, agent_name, tool_name;

-- name: monitored
-- What would a policy in monitor mode have stopped?
SELECT matched_rule, count() AS calls FROM aegis_decisions
WHERE mode = 'monitor' AND outcome = 'blocked' GROUP BY matched_rule ORDER BY calls DESC;

-- name: tools
-- Which tools fail, and which are slow?
SELECT SpanAttributes['gen_ai.tool.name'] AS tool_name, count() AS calls, countIf(StatusCode = 'Error') AS failed,
    round(quantileExact(0.95)(Duration) / 1e9, 3) AS p95_s
FROM otel_traces WHERE SpanAttributes['gen_ai.operation.name'] = 'execute_tool'
GROUP BY tool_name ORDER BY failed DESC, tool_name;

-- name: one_call
-- Everything that is known of one call: what was decided, and what ran in its trace.
SELECT decisions.decision_id, decisions.outcome, spans.SpanName, spans.StatusCode
FROM aegis_decisions AS decisions
LEFT JOIN otel_traces AS spans ON spans.TraceId = decisions.trace_id
WHERE decisions.decision_id = {decision_id:String}
ORDER BY spans.Timestamp, spans.SpanName;

-- name: reconciliation
-- How many decisions does each service tell of, to be held against its audit?
SELECT ServiceName AS service, uniqExact(DecisionId) AS decisions, count() AS events
FROM otel_logs WHERE EventName = 'aegis.tool.decision' GROUP BY service ORDER BY service;
