-- Tables for the collector's ClickHouse exporter, and views that speak of decisions.
--
-- The columns are those the exporter (0.161) writes, by their names; key, order and lifetime are chosen for the
-- questions in questions.sql. Run it before the collector starts and set `create_schema: false`. On a cluster,
-- make the engine `ReplicatedMergeTree` and put a `Distributed` table of the same name before it.

CREATE TABLE IF NOT EXISTS otel_logs (
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    TraceFlags UInt8,
    SeverityText LowCardinality(String),
    SeverityNumber UInt8,
    ServiceName LowCardinality(String),
    Body String CODEC(ZSTD(1)),
    ResourceSchemaUrl LowCardinality(String),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeSchemaUrl LowCardinality(String),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion LowCardinality(String),
    ScopeAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    LogAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    EventName LowCardinality(String) DEFAULT LogAttributes['event.name'], -- where the exporter leaves it out
    DecisionId String MATERIALIZED LogAttributes['aegis.decision.id'] CODEC(ZSTD(1)), -- not the exporter's: for its index
    INDEX by_trace TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX by_decision DecisionId TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toYYYYMM(Timestamp)
ORDER BY (EventName, ServiceName, Timestamp)
TTL toDateTime(Timestamp) + INTERVAL 400 DAY;

CREATE TABLE IF NOT EXISTS otel_traces (
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    ParentSpanId String CODEC(ZSTD(1)),
    TraceState String CODEC(ZSTD(1)),
    SpanName LowCardinality(String),
    SpanKind LowCardinality(String),
    ServiceName LowCardinality(String),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion String CODEC(ZSTD(1)),
    SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    Duration UInt64 CODEC(ZSTD(1)),
    StatusCode LowCardinality(String),
    StatusMessage String CODEC(ZSTD(1)),
    Events Nested (
        Timestamp DateTime64(9),
        Name LowCardinality(String),
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    Links Nested (
        TraceId String,
        SpanId String,
        TraceState String,
        Attributes Map(LowCardinality(String), String)
    ) CODEC(ZSTD(1)),
    INDEX by_trace TraceId TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SpanName, Timestamp)
TTL toDateTime(Timestamp) + INTERVAL 30 DAY;

-- One row a decision: what was sent twice (`aegis audit resend`, a retry of the collector's) counts once.
CREATE OR REPLACE VIEW aegis_decisions AS
SELECT
    DecisionId AS decision_id,
    Timestamp AS timestamp,
    ServiceName AS service,
    LogAttributes['gen_ai.agent.name'] AS agent_name,
    LogAttributes['gen_ai.tool.name'] AS tool_name,
    LogAttributes['gen_ai.tool.call.id'] AS tool_call_id,
    LogAttributes['gen_ai.conversation.id'] AS conversation_id,
    LogAttributes['user.hash'] AS user_hash,
    LogAttributes['aegis.tenant.id'] AS tenant_id,
    LogAttributes['aegis.decision.outcome'] AS outcome,
    LogAttributes['aegis.policy.approval'] AS approval,
    LogAttributes['aegis.risk.level'] AS risk_level,
    LogAttributes['aegis.policy.rule.name'] AS matched_rule,
    LogAttributes['aegis.policy.digest'] AS policy_digest,
    LogAttributes['aegis.enforcement.mode'] AS mode,
    LogAttributes['aegis.decision.reason'] AS reason,
    LogAttributes['aegis.action.arguments.digest'] AS args_digest,
    TraceId AS trace_id,
    SpanId AS span_id
FROM otel_logs
WHERE EventName = 'aegis.tool.decision'
ORDER BY timestamp
LIMIT 1 BY decision_id;

-- One row an answer of a human.
CREATE OR REPLACE VIEW aegis_approvals AS
SELECT
    DecisionId AS decision_id,
    Timestamp AS timestamp,
    ServiceName AS service,
    LogAttributes['gen_ai.agent.name'] AS agent_name,
    LogAttributes['gen_ai.tool.name'] AS tool_name,
    LogAttributes['aegis.risk.level'] AS risk_level,
    LogAttributes['aegis.policy.rule.name'] AS matched_rule,
    LogAttributes['aegis.approval.channel'] AS channel,
    LogAttributes['aegis.approval.outcome'] AS outcome,
    toFloat64OrNull(LogAttributes['aegis.approval.wait_time']) AS wait_s
FROM otel_logs
WHERE EventName = 'aegis.approval.resolved';
