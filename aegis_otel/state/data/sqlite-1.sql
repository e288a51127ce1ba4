-- A mark is what a permitted call leaves in a series. Times are Unix nanoseconds, amounts are millionths.
-- `succeeded` is null while nobody knows how the body ended.
CREATE TABLE mark (
    series BLOB NOT NULL,
    marked_at INTEGER NOT NULL,
    decision_id TEXT NOT NULL,
    amount INTEGER NOT NULL,
    keep_until INTEGER NOT NULL,
    run BLOB,
    succeeded INTEGER,
    PRIMARY KEY (series, marked_at, decision_id)
) WITHOUT ROWID;
CREATE INDEX mark_open ON mark (decision_id) WHERE succeeded IS NULL;
CREATE INDEX mark_keep_until ON mark (keep_until);
CREATE UNIQUE INDEX mark_run ON mark (series, run) WHERE run IS NOT NULL;
CREATE TABLE store (salt BLOB NOT NULL);
