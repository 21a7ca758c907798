-- The stored history: one row for each uploaded image and its outcome.
-- The row is the truth; the task message carries only its id. PostgreSQL 15 to 17.

CREATE TYPE prediction_status AS ENUM (
    'queued',     -- stored, so it cannot be lost; no worker has taken it yet
    'running',    -- a worker has claimed it for a batch; says nothing about the worker being alive
    'succeeded',  -- terminal: prediction, confidence and probabilities are set
    'failed',     -- terminal: error_title and error_detail say why
    'canceled'    -- terminal: withdrawn by its user before a worker finished it
);

CREATE TABLE predictions (
    id            uuid PRIMARY KEY,                     -- version 7: made by the backend, sorts by time
    filename      text NOT NULL,                        -- as the client named it; shown, never trusted
    status        prediction_status NOT NULL DEFAULT 'queued',
    prediction    text,                                 -- the label with the highest probability
    confidence    double precision,                     -- that probability, 0 to 1
    probabilities jsonb,                                -- [{"label", "probability"}], highest first
    model         text,                                 -- version of the artifact that answered
    energy        double precision,                     -- minus the log-sum-exp of the logits: high is unfamiliar
    unfamiliar    boolean,                              -- energy over the model's threshold: none of its classes
    error_title   text,
    error_detail  text,
    "timestamp"   timestamptz NOT NULL,                 -- when it was accepted; equals the id's time
    started_at    timestamptz,                          -- when the latest attempt was claimed
    completed_at  timestamptz,                          -- when the status became terminal
    attempt       smallint NOT NULL DEFAULT 0,          -- claims so far; an outcome must name the latest
    batch_size    integer,                              -- images in the batch it ran in
    predict_ms    double precision,                     -- time of that batch's forward pass
    feedback      text,                                 -- the label that a person says is right
    pixels        bytea NOT NULL,                       -- what the model sees: 32 x 32 x 3, RGB, uint8
    upload_key    bytea,                                -- of the Idempotency-Key: digest, count, place
    bulk          boolean NOT NULL DEFAULT false,       -- came with others: its message is in the queue inference.bulk

    CONSTRAINT filename_is_short CHECK (char_length(filename) BETWEEN 1 AND 255),
    CONSTRAINT pixels_are_one_image CHECK (octet_length(pixels) = 3072),
    CONSTRAINT confidence_is_a_probability CHECK (confidence BETWEEN 0 AND 1),
    CONSTRAINT success_has_an_answer CHECK (
        (status = 'succeeded') = (prediction IS NOT NULL AND confidence IS NOT NULL
                                  AND probabilities IS NOT NULL AND model IS NOT NULL)),
    CONSTRAINT failure_has_a_reason CHECK ((status = 'failed') = (error_title IS NOT NULL)),
    CONSTRAINT terminal_has_an_end CHECK ((status IN ('queued', 'running')) = (completed_at IS NULL))
);

-- Pixels do not compress; do not try at every insert.
ALTER TABLE predictions ALTER COLUMN pixels SET STORAGE EXTERNAL;

-- History: newest first is the primary key read backwards, and a time range is a range of ids.
CREATE INDEX predictions_by_label ON predictions (prediction, id) WHERE prediction IS NOT NULL;
CREATE INDEX predictions_by_failure ON predictions (status, id) WHERE status IN ('failed', 'canceled');
-- An upload that is sent again under its key makes no second row.
CREATE UNIQUE INDEX predictions_by_upload_key ON predictions (upload_key) WHERE upload_key IS NOT NULL;
-- The relay looks for what is unfinished, by queue. An eighth of these rows, by an id's last byte, which is random,
-- stands for all when they are counted.
CREATE INDEX predictions_unfinished ON predictions (id, bulk) WHERE status IN ('queued', 'running');
CREATE INDEX predictions_sample ON predictions (id)
    WHERE status IN ('queued', 'running') AND get_byte(uuid_send(id), 15) < 32;


-- What happened to predictions, in the order in which it was committed. An event says that a row was stored,
-- changed or removed; readers join it with the row. A number is the time in microseconds since 1970, and higher
-- than every number before it, so numbers stay in order across a dump, a restore and a crash
-- (docs/decisions/0020). The backends keep the newest 20,000 events and remove older ones.
CREATE TABLE events (
    number        bigint PRIMARY KEY,
    prediction_id uuid                                  -- null: so much changed that readers must load anew
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);
INSERT INTO events VALUES (extract(epoch FROM clock_timestamp()) * 1000000, NULL);

-- Number the rows that a statement changed, and notify on commit: the channel `outcomes` if a row ended or was
-- removed, else `progress`. A notification has no payload: it only says that there are events to read.
--
-- The lock is held until the transaction has ended. Whoever takes numbers therefore sees the events of every
-- earlier number, and a reader that sees a number sees all lower ones. NOTIFY takes such a lock itself, from
-- just before the commit to its end.
CREATE FUNCTION record_events() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed integer;
    ended boolean;
    last bigint;
BEGIN
    SELECT count(*), bool_or(completed_at IS NOT NULL) INTO changed, ended FROM changes;
    IF changed = 0 THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock(20);  -- any number that nothing else locks; this is the decision's
    SELECT greatest(max(number), extract(epoch FROM clock_timestamp()) * 1000000) INTO last FROM public.events;
    IF changed > 1000 THEN
        INSERT INTO public.events VALUES (last + 1, NULL);
    ELSE
        INSERT INTO public.events SELECT last + row_number() OVER (), id FROM changes;
    END IF;
    PERFORM pg_notify(CASE WHEN ended OR TG_OP = 'DELETE' THEN 'outcomes' ELSE 'progress' END, '');
    RETURN NULL;
END $$;

CREATE TRIGGER predictions_inserted AFTER INSERT ON predictions
    REFERENCING NEW TABLE AS changes FOR EACH STATEMENT EXECUTE FUNCTION record_events();
CREATE TRIGGER predictions_updated AFTER UPDATE ON predictions
    REFERENCING NEW TABLE AS changes FOR EACH STATEMENT EXECUTE FUNCTION record_events();
CREATE TRIGGER predictions_deleted AFTER DELETE ON predictions
    REFERENCING OLD TABLE AS changes FOR EACH STATEMENT EXECUTE FUNCTION record_events();


-- Runs of the training service. The row is the truth here, too: the task message carries only its id.
CREATE TYPE training_status AS ENUM (
    'queued',     -- accepted, or handed back by a worker that stopped; no worker runs it
    'running',    -- a worker runs it, and says so every few seconds (seen_at)
    'succeeded',  -- terminal: its model is published
    'failed',     -- terminal: error_title and error_detail say why
    'canceled'    -- terminal: withdrawn; a worker that still runs it stops within a second
);

CREATE TABLE trainings (
    id            uuid PRIMARY KEY,                     -- version 7, made by the backend
    recipe        text NOT NULL,                        -- fast, balanced or accurate
    seed          bigint NOT NULL,
    epochs        integer,                              -- null until a worker knows: as many as the recipe has
    data          text,                                 -- name in the worker's folder of data sets; null is CIFAR-10
    activation    text NOT NULL,                        -- when its model is to be served: better, always, never
    status        training_status NOT NULL DEFAULT 'queued',
    phase         text,                                 -- what a running one does: reading, training, evaluating, ...
    device        text,                                 -- where it runs
    model         text,                                 -- version that it published
    error_title   text,
    error_detail  text,
    "timestamp"   timestamptz NOT NULL,                 -- when it was accepted; equals the id's time
    started_at    timestamptz,                          -- when it was claimed first
    seen_at       timestamptz,                          -- when its worker last said that it lives
    completed_at  timestamptz,
    attempt       smallint NOT NULL DEFAULT 0,          -- claims so far; an outcome must name the latest

    CONSTRAINT epochs_are_countable CHECK (epochs BETWEEN 1 AND 1000),
    CONSTRAINT activation_is_known CHECK (activation IN ('better', 'always', 'never')),
    CONSTRAINT training_success_has_a_model CHECK ((status = 'succeeded') = (model IS NOT NULL)),
    CONSTRAINT training_failure_has_a_reason CHECK ((status = 'failed') = (error_title IS NOT NULL)),
    CONSTRAINT training_has_an_end CHECK ((status IN ('queued', 'running')) = (completed_at IS NULL))
);
CREATE INDEX trainings_unfinished ON trainings (id) WHERE status IN ('queued', 'running');

-- One measured epoch of a run. A resumed run goes on after the last one here.
CREATE TABLE epochs (
    training            uuid NOT NULL REFERENCES trainings ON DELETE CASCADE,
    number              integer NOT NULL,               -- from 1
    loss                double precision NOT NULL,      -- mean cross-entropy an image, on what was trained on
    accuracy            double precision NOT NULL,      -- on the augmented images that were trained on
    validation_accuracy double precision NOT NULL,      -- on the held-out part of the training images
    learning_rate       double precision NOT NULL,      -- of the filters, at the epoch's end
    images_per_second   double precision NOT NULL,
    seconds_left        double precision NOT NULL,      -- until the last epoch's end, estimated
    "timestamp"         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (training, number)
);

-- Tell the channel `trainings` which runs have a new state or epoch.
CREATE FUNCTION notify_trainings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('trainings', CASE TG_TABLE_NAME WHEN 'epochs' THEN to_jsonb(NEW) ->> 'training'
                                                      ELSE to_jsonb(NEW) ->> 'id' END);
    RETURN NULL;
END $$;

CREATE TRIGGER trainings_changed AFTER INSERT OR UPDATE ON trainings
    FOR EACH ROW EXECUTE FUNCTION notify_trainings();
CREATE TRIGGER epochs_added AFTER INSERT ON epochs
    FOR EACH ROW EXECUTE FUNCTION notify_trainings();


-- Every version that an inference worker has found in the folder of models, with its card. The version
-- served is the one activated last among those without an error.
CREATE TABLE models (
    version       text PRIMARY KEY,
    card          jsonb NOT NULL,                       -- card.json as published; {} when it cannot be read
    error         text,                                 -- why it is refused; null when it can be served
    found_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    activated_at  timestamptz,                          -- when it was last made the one to serve
    served_at     timestamptz                           -- when a worker last began to serve it
);

CREATE FUNCTION notify_models() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('models', '');
    RETURN NULL;
END $$;

CREATE TRIGGER models_changed AFTER INSERT OR UPDATE ON models
    FOR EACH STATEMENT EXECUTE FUNCTION notify_models();


-- Each service may do what it does, and no more. Their passwords are set beside this file: by
-- scripts/database-passwords in a container, by scripts/local/stack.py without one.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'backend') THEN CREATE ROLE backend LOGIN; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'worker') THEN CREATE ROLE worker LOGIN; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'training') THEN CREATE ROLE training LOGIN; END IF;
END $$;
GRANT SELECT, INSERT, DELETE, UPDATE (status, completed_at, feedback) ON predictions TO backend;
GRANT SELECT, DELETE ON events TO backend;
GRANT SELECT ON predictions TO worker;
GRANT UPDATE (status, prediction, confidence, probabilities, model, energy, unfamiliar, error_title,
              error_detail, started_at, completed_at, attempt, batch_size, predict_ms) ON predictions TO worker;

GRANT SELECT, INSERT, UPDATE (status, completed_at) ON trainings TO backend;
GRANT SELECT ON epochs TO backend;
GRANT SELECT, UPDATE (status, epochs, phase, device, model, error_title, error_detail, started_at,
                      seen_at, completed_at, attempt) ON trainings TO training;
GRANT SELECT, INSERT ON epochs TO training;

GRANT SELECT, UPDATE (activated_at) ON models TO backend;
GRANT SELECT, INSERT, UPDATE (error, activated_at, served_at) ON models TO worker;
GRANT SELECT ON models TO training;
