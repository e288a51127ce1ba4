-- Questions to people and their answers. Times are Unix nanoseconds. `status`, `person` and all other columns
-- beside a body are for finding and showing rows: nothing runs because of them.
CREATE TABLE question (
    decision_id TEXT PRIMARY KEY NOT NULL,
    digest TEXT NOT NULL,
    call_digest TEXT NOT NULL,
    status TEXT NOT NULL,
    asked_ns INTEGER NOT NULL,
    expires_ns INTEGER,
    ended_ns INTEGER,
    used_by TEXT,
    change INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX question_status ON question (status, decision_id);
CREATE INDEX question_call ON question (call_digest);
CREATE INDEX question_change ON question (change);
CREATE INDEX question_expires ON question (expires_ns) WHERE status IN ('waiting', 'approved');
CREATE INDEX question_ended ON question (ended_ns) WHERE ended_ns IS NOT NULL;
CREATE TABLE answer (
    decision_id TEXT NOT NULL,
    person TEXT NOT NULL,
    place INTEGER NOT NULL,
    body BLOB NOT NULL,
    signature BLOB NOT NULL,
    signed_by TEXT NOT NULL,
    PRIMARY KEY (decision_id, person)
) WITHOUT ROWID;
CREATE TABLE refused_answer (
    decision_id TEXT NOT NULL,
    place INTEGER NOT NULL,
    approver TEXT NOT NULL,
    why TEXT NOT NULL,
    refused_ns INTEGER NOT NULL,
    PRIMARY KEY (decision_id, place)
) WITHOUT ROWID;
CREATE TABLE approval_grant (
    decision_id TEXT PRIMARY KEY NOT NULL,
    grant_key TEXT NOT NULL,
    conversation_key TEXT,
    until_ns INTEGER NOT NULL,
    revoked_by TEXT
) WITHOUT ROWID;
CREATE INDEX approval_grant_key ON approval_grant (grant_key);
-- When a yes to a call of a saved run was used last. It outlives the questions about the call.
CREATE TABLE used_call (
    call_digest TEXT PRIMARY KEY NOT NULL,
    used_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX used_call_time ON used_call (used_ns);
CREATE TABLE inbox_change (number INTEGER NOT NULL);
INSERT INTO inbox_change (number) VALUES (0);
