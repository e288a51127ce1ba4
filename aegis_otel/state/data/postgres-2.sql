-- Questions to people and their answers. Times are Unix nanoseconds, those of the server. `status`, `person` and
-- all other columns beside a body are for finding and showing rows: nothing runs because of them.
CREATE TABLE aegis.question (
    decision_id text COLLATE "C" PRIMARY KEY,
    digest text NOT NULL,
    call_digest text NOT NULL,
    status text NOT NULL,
    asked_ns bigint NOT NULL,
    expires_ns bigint,
    ended_ns bigint,
    used_by text,
    change bigint NOT NULL,
    body bytea NOT NULL
);
CREATE INDEX question_status ON aegis.question (status, decision_id);
CREATE INDEX question_call ON aegis.question (call_digest);
CREATE INDEX question_change ON aegis.question (change);
CREATE INDEX question_expires ON aegis.question (expires_ns) WHERE status IN ('waiting', 'approved');
CREATE INDEX question_ended ON aegis.question (ended_ns) WHERE ended_ns IS NOT NULL;
CREATE TABLE aegis.answer (
    decision_id text COLLATE "C" NOT NULL,
    person text COLLATE "C" NOT NULL,
    place bigint NOT NULL,
    body bytea NOT NULL,
    signature bytea NOT NULL,
    signed_by text NOT NULL,
    PRIMARY KEY (decision_id, person)
);
CREATE TABLE aegis.refused_answer (
    decision_id text COLLATE "C" NOT NULL,
    place bigint NOT NULL,
    approver text NOT NULL,
    why text NOT NULL,
    refused_ns bigint NOT NULL,
    PRIMARY KEY (decision_id, place)
);
CREATE TABLE aegis.approval_grant (
    decision_id text COLLATE "C" PRIMARY KEY,
    grant_key text NOT NULL,
    conversation_key text COLLATE "C",
    until_ns bigint NOT NULL,
    revoked_by text
);
CREATE INDEX approval_grant_key ON aegis.approval_grant (grant_key);
-- When a yes to a call of a saved run was used last. It outlives the questions about the call.
CREATE TABLE aegis.used_call (
    call_digest text COLLATE "C" PRIMARY KEY,
    used_ns bigint NOT NULL
);
CREATE INDEX used_call_time ON aegis.used_call (used_ns);
CREATE TABLE aegis.inbox_change (number bigint NOT NULL);
INSERT INTO aegis.inbox_change VALUES (0);
