-- A mark is what a permitted call leaves in a series. Amounts are millionths. `succeeded` is null while nobody
-- knows how the body ended. Times are those of the server.
CREATE TABLE aegis.mark (
    series bytea NOT NULL,
    marked_at timestamptz NOT NULL,
    decision_id text NOT NULL,
    amount bigint NOT NULL,
    keep_until timestamptz NOT NULL,
    run bytea,
    succeeded boolean
) WITH (fillfactor = 90);
CREATE INDEX mark_series ON aegis.mark (series, marked_at);
CREATE INDEX mark_decision ON aegis.mark (decision_id);
CREATE INDEX mark_keep_until ON aegis.mark (keep_until);
CREATE UNIQUE INDEX mark_run ON aegis.mark (series, run) WHERE run IS NOT NULL;
CREATE TABLE aegis.store (version integer NOT NULL, salt bytea NOT NULL);
