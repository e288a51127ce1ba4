-- The queries of the report: after `--` the name and the meaning of each. `report/queries.py` fills in what is in
-- braces. Long names that begin alike stay apart when they are cut, by their digest.

-- cut_macro: a name, cut
CREATE OR REPLACE TEMP MACRO cut(text) AS CASE WHEN length(text) > 100
    THEN left(text, 80) || '... ' || length(text) || ' characters, md5 ' || left(md5(text), 8) ELSE text END

-- head_macro: the beginning of a text
CREATE OR REPLACE TEMP MACRO head(text) AS CASE WHEN length(text) > 200
    THEN left(text, 200) || '... ' || length(text) || ' characters' ELSE text END

-- refused_answers: the refused answers of the inbox
CREATE OR REPLACE TEMP TABLE refused_answer AS SELECT unnest(?::VARCHAR[]) AS decision_id,
    unnest(?::VARCHAR[]) AS approver, unnest(?::VARCHAR[]) AS why, unnest(?::BIGINT[]) AS time

-- span: the times of the first and the last call
SELECT min(epoch_us("timestamp")) AS first, max(epoch_us("timestamp")) AS last, 1 AS total
FROM audit WHERE {condition}

-- call_groups: the calls, grouped by all that the page counts by
CREATE OR REPLACE TEMP TABLE call_group AS
SELECT cut(result_status) AS status, cut(risk_level) AS risk, cut(approval) AS approval,
    cut(matched_rule) AS rule, cut(agent_name) AS agent, cut(coalesce(tool_name, action_type)) AS tool,
    cut(service) AS service, cut(policy_digest) AS policy, mode = 'monitor' AS monitored,
    human_decision IS NOT NULL AND decision_id IN (FROM unproven_answer) AS unproven,
    CASE result_status {kind} END AS kind, cut(outcome) AS outcome, cut({answer}) AS answer,
    CASE WHEN epoch_us("timestamp") BETWEEN {first_time} AND {last_time}
        THEN (epoch_us("timestamp") - {start:d}) // {width:d} END AS bucket,
    count(*) AS calls, min(epoch_us("timestamp")) AS first, max(epoch_us("timestamp")) AS last
FROM audit WHERE {condition} GROUP BY ALL

-- groups: the calls by some of their properties, the largest groups first
SELECT {names}, sum(calls)::BIGINT AS calls, {kind_counts}, min(first) AS first, max(last) AS last,
    count(*) OVER () AS total
FROM call_group WHERE {where} GROUP BY {names} ORDER BY {order} NULLS LAST, {names} LIMIT {limit:d}

-- time_line: the calls of each kind in each bucket of time
SELECT bucket, sum(calls)::BIGINT AS calls, {kind_counts}, 1 AS total
FROM call_group WHERE bucket IS NOT NULL GROUP BY bucket

-- calls: the newest calls
SELECT epoch_us("timestamp") AS time, cut(agent_name) AS agent, cut(action_type) AS action,
    cut(action_target) AS target, cut(matched_rule) AS rule,
    cut(coalesce(human_decision, approval)) AS decision, cut(result_status) AS status,
    head(action_params::VARCHAR) AS arguments,
    right(cut(decision_id), 8) AS id, mode = 'monitor' AS monitored, cut(approver) AS approver,
    head(coalesce(approval_reason, CASE reason WHEN 'approval_error' THEN result_error END, reason)) AS reason,
    human_decision IS NOT NULL AND decision_id IN (FROM unproven_answer) AS unproven,
    count(*) OVER () AS total
FROM audit WHERE {condition} AND {where} ORDER BY "timestamp" DESC NULLS LAST, decision_id DESC LIMIT {limit:d}

-- tool_times: how often each tool ran and how many seconds it took, the slowest first
SELECT cut(coalesce(tool_name, action_type)) AS tool, count(*) AS calls,
    quantile_cont(duration_s, 0.5) AS median, quantile_cont(duration_s, 0.95) AS p95,
    max(duration_s) AS longest, count(*) OVER () AS total
FROM audit WHERE {condition} AND duration_s IS NOT NULL GROUP BY tool ORDER BY p95 DESC, tool LIMIT {limit:d}

-- approvers: how often each approver answered, alone or with others, and how many seconds they needed
SELECT cut(person) AS approver, count(*) AS answers,
    count(*) FILTER (human_decision = 'approved') AS yes, count(*) FILTER (human_decision = 'denied') AS no,
    median(approval_wait_s) AS median, max(approval_wait_s) AS longest, count(*) OVER () AS total
FROM (SELECT human_decision, approval_wait_s, unnest(string_split(coalesce(approver, ''), ', ')) AS person
    FROM audit WHERE {condition} AND human_decision IN ('approved', 'denied') AND NOT {granted})
GROUP BY ALL ORDER BY answers DESC, 1 NULLS LAST LIMIT {limit:d}

-- terms: how often who had to answer, and for how long they could, with what came of it
SELECT approval_terms AS terms, count(*) AS calls, count(*) FILTER (human_decision = 'approved') AS yes,
    count(*) FILTER (human_decision = 'denied') AS no, count(*) FILTER (human_decision = 'expired') AS expired,
    count(*) OVER () AS total
FROM audit WHERE {condition} AND approval_terms <> ''
GROUP BY ALL ORDER BY calls DESC, 1 LIMIT {limit:d}

-- grants: the calls that a grant let run without a question
SELECT cut(regexp_extract(approval_reason, {grant}, 1)) AS id,
    cut(regexp_extract(approval_reason, {grant}, 2)) AS until, cut(matched_rule) AS rule, cut(approver) AS approver, count(*) AS calls, count(*) OVER () AS total
FROM audit WHERE {condition} AND {granted}
GROUP BY ALL ORDER BY calls DESC, 1, rule LIMIT {limit:d}

-- refused: answers of the inbox to these calls that counted for nothing, the newest first
SELECT cut(asked.decision_id) AS id, cut(refused_answer.approver) AS approver, head(why) AS why, time,
    cut(matched_rule) AS rule, count(*) OVER () AS total
FROM (SELECT decision_id, matched_rule FROM audit WHERE {condition}) AS asked
JOIN refused_answer ON refused_answer.decision_id = asked.decision_id
ORDER BY time DESC, 1, 2 LIMIT {limit:d}

-- waits: the seconds that answers took
SELECT quantile_cont(approval_wait_s, 0.5) AS median, quantile_cont(approval_wait_s, 0.95) AS p95,
    max(approval_wait_s) AS longest, 1 AS total
FROM audit WHERE {condition} AND human_decision IN ('approved', 'denied') AND NOT {granted}

-- failures: how often a tool failed with an error, and when it last did
SELECT cut(coalesce(tool_name, action_type)) AS tool, cut(result_status) AS status,
    head(result_error) AS error, count(*) AS calls, max(epoch_us("timestamp")) AS last,
    count(*) OVER () AS total
FROM audit WHERE {condition} AND result_status IN ('failed', 'cancelled', 'skipped')
GROUP BY tool, status, error ORDER BY calls DESC, tool, status, error LIMIT {limit:d}

-- unfired: the rules of a policy that decided no call, in their order
SELECT cut(rule) FROM (SELECT unnest(?::VARCHAR[]) AS rule)
WHERE cut(rule) NOT IN (SELECT rule FROM call_group WHERE policy = ? AND rule IS NOT NULL)
