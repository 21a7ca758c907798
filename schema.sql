-- The database of the service, for PostgreSQL 15 to 17. Each accepted image and its outcome are one row of the table
-- `predictions`. The row is the truth; a task message carries only ids.

CREATE TYPE prediction_status AS ENUM (
    'queued',     -- stored, so it cannot be lost; a worker may have read it, but no outcome is written
    'running',    -- claimed: redelivered, tried before, or in a slow batch; its worker may be gone
    'succeeded',  -- terminal: prediction, confidence and probabilities are set
    'failed',     -- terminal: error_title and error_detail say why
    'canceled'    -- terminal: canceled by a user before it had an outcome
);

CREATE TABLE predictions (
    id            uuid PRIMARY KEY,                     -- version 7, made by the backend; sorts by time
    filename      text NOT NULL,                        -- the client's name for the file; shown and searched
    status        prediction_status NOT NULL DEFAULT 'queued',
    prediction    text,                                 -- the label with the highest probability
    confidence    double precision,                     -- that probability, 0 to 1
    probabilities jsonb,                                -- [{"label", "probability"}], highest first
    model         text,                                 -- version of the model that answered
    energy        double precision,                     -- minus the log-sum-exp of the calibrated logits
    unfamiliar    boolean,                              -- energy over the model's threshold: likely none of its classes
    error_title   text,
    error_detail  text,
    "timestamp"   timestamptz NOT NULL,                 -- when it was accepted; equals the id's time
    started_at    timestamptz,                          -- when the latest attempt began
    completed_at  timestamptz,                          -- when the status became terminal
    attempt       smallint NOT NULL DEFAULT 0,          -- attempts so far, counted at a claim or with the outcome
    batch_size    integer,                              -- images in its batch
    predict_ms    double precision,                     -- duration of the batch's forward pass
    feedback      text,                                 -- the correct label, given by a person
    pixels        bytea NOT NULL,                       -- the model's input: 32 x 32 x 3, RGB, uint8
    upload_key    bytea,                                -- from the Idempotency-Key: digest, number of images, position
    bulk          boolean NOT NULL DEFAULT false,       -- from a request with several files: queue inference.bulk

    CONSTRAINT filename_is_short CHECK (char_length(filename) BETWEEN 1 AND 255),
    CONSTRAINT pixels_are_one_image CHECK (octet_length(pixels) = 3072),
    CONSTRAINT confidence_is_a_probability CHECK (confidence BETWEEN 0 AND 1),
    CONSTRAINT success_has_an_answer CHECK (
        (status = 'succeeded') = (prediction IS NOT NULL AND confidence IS NOT NULL
                                  AND probabilities IS NOT NULL AND model IS NOT NULL)),
    CONSTRAINT failure_has_a_reason CHECK ((status = 'failed') = (error_title IS NOT NULL)),
    CONSTRAINT terminal_has_an_end CHECK ((status IN ('queued', 'running')) = (completed_at IS NULL))
);

-- Pixels do not compress, so PostgreSQL does not try.
ALTER TABLE predictions ALTER COLUMN pixels SET STORAGE EXTERNAL;

-- An index for searches by a part of the file name (docs/decisions/0024). Uploads are not slowed down, because a row
-- enters the index with its outcome. New entries wait in a list. The write that makes the list longer than 512 kB
-- sorts it into the index, which takes about 30 ms for 1,000 rows.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE INDEX predictions_by_filename ON predictions USING gin (filename gin_trgm_ops)
    WITH (gin_pending_list_limit = 512) WHERE completed_at IS NOT NULL;

-- Each outcome leaves a dead row. Vacuum starts at a smaller share of dead rows than by default.
-- With 2 million rows in the table, it starts after 45,000 updates instead of 400,000.
ALTER TABLE predictions SET (
    autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_threshold = 5000, autovacuum_analyze_scale_factor = 0.02,
    toast.autovacuum_vacuum_threshold = 5000, toast.autovacuum_vacuum_scale_factor = 0.02
);

-- The history (newest first) reads the primary key backwards. A time range is a range of ids. The next two indexes
-- are for the filters of the history by label, and by `failed` or `canceled`.
CREATE INDEX predictions_by_label ON predictions (prediction, id) WHERE prediction IS NOT NULL;
CREATE INDEX predictions_by_failure ON predictions (status, id) WHERE status IN ('failed', 'canceled');
-- A repeated upload with the same key makes no second row.
CREATE UNIQUE INDEX predictions_by_upload_key ON predictions (upload_key) WHERE upload_key IS NOT NULL;
-- The relay finds and counts unfinished rows with these indexes, which hold no other rows. If there are many, it
-- counts only a sample of an eighth: the rows whose id ends in a byte below 32. That byte is random.
CREATE INDEX predictions_unfinished ON predictions (id, bulk) WHERE status IN ('queued', 'running');
CREATE INDEX predictions_sample ON predictions (id)
    WHERE status IN ('queued', 'running') AND get_byte(uuid_send(id), 15) < 32;


-- What happened to predictions, in commit order. An event says that a row was stored, changed or removed; readers
-- join it with the row. A number is the time in microseconds since 1970, and higher than every number before it.
-- Numbers therefore stay in order across a dump, a restore and a crash (docs/decisions/0020). The backends keep the
-- newest 20,000 events and remove older ones.
CREATE TABLE events (
    number        bigint PRIMARY KEY,
    prediction_id uuid                                  -- null: so much changed that readers must reload
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000);
INSERT INTO events VALUES (extract(epoch FROM clock_timestamp()) * 1000000, NULL);

-- Write numbered events for the rows that a statement changed, and notify on commit: the channel `outcomes` if a row
-- is terminal or was removed, else `progress`. A notification has no payload: it says that there are events.
--
-- Take an advisory lock, which is held until the transaction ends. A transaction that takes numbers therefore sees all
-- earlier events, and a reader that sees a number sees all lower numbers. NOTIFY itself takes a similar lock, from
-- just before the commit until the commit ends.
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
    PERFORM pg_advisory_xact_lock(20);  -- no other lock has this key; see docs/decisions/0020
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
-- Predictions that retention removes (backend/retention.py) cause no events.
CREATE TRIGGER predictions_deleted AFTER DELETE ON predictions
    REFERENCING OLD TABLE AS changes FOR EACH STATEMENT
    WHEN (current_setting('cifar.events', true) IS DISTINCT FROM 'off') EXECUTE FUNCTION record_events();


-- Trainings. The row is the truth here, too: a task message carries only ids.
CREATE TYPE training_status AS ENUM (
    'queued',     -- accepted, or returned by a worker that stopped; no worker runs it
    'running',    -- claimed by a worker, which updates seen_at every five seconds; the worker may be gone
    'succeeded',  -- terminal: its model is published
    'failed',     -- terminal: error_title and error_detail say why
    'canceled'    -- terminal: canceled by a user; its worker ends the run within three seconds
);

CREATE TABLE trainings (
    id            uuid PRIMARY KEY,                     -- version 7, made by the backend
    recipe        text NOT NULL,                        -- fast, balanced or accurate
    seed          bigint NOT NULL,
    epochs        integer,                              -- as requested, or null until a worker writes it
    data          text,                                 -- name in the worker's folder of data sets; null is CIFAR-10
    activation    text NOT NULL,                        -- when to serve its model: better, always, never
    status        training_status NOT NULL DEFAULT 'queued',
    phase         text,                                 -- what its process does: reading, training, evaluating, ...
    device        text,                                 -- the device that trains
    model         text,                                 -- the version that it published
    error_title   text,
    error_detail  text,
    "timestamp"   timestamptz NOT NULL,                 -- when it was accepted; equals the id's time
    started_at    timestamptz,                          -- when it was first claimed
    seen_at       timestamptz,                          -- when its worker last reported
    completed_at  timestamptz,
    attempt       smallint NOT NULL DEFAULT 0,          -- claims, less those that a stopping worker returned; at most 3

    CONSTRAINT epochs_are_countable CHECK (epochs BETWEEN 1 AND 1000),
    CONSTRAINT activation_is_known CHECK (activation IN ('better', 'always', 'never')),
    CONSTRAINT training_success_has_a_model CHECK ((status = 'succeeded') = (model IS NOT NULL)),
    CONSTRAINT training_failure_has_a_reason CHECK ((status = 'failed') = (error_title IS NOT NULL)),
    CONSTRAINT training_has_an_end CHECK ((status IN ('queued', 'running')) = (completed_at IS NULL))
);
CREATE INDEX trainings_unfinished ON trainings (id) WHERE status IN ('queued', 'running');

-- One measured epoch of a training. A resumed training adds rows after its last epoch, and changes none.
CREATE TABLE epochs (
    training            uuid NOT NULL REFERENCES trainings ON DELETE CASCADE,
    number              integer NOT NULL,               -- from 1
    loss                double precision NOT NULL,      -- mean cross-entropy of the training images
    accuracy            double precision NOT NULL,      -- on the augmented training images
    validation_accuracy double precision NOT NULL,      -- on the held-out training images
    learning_rate       double precision NOT NULL,      -- of the convolution filters, at the end of the epoch
    images_per_second   double precision NOT NULL,
    seconds_left        double precision NOT NULL,      -- estimated time to the end of the last epoch
    "timestamp"         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (training, number)
);

-- Notify the channel `trainings` with the id of a training that was stored or changed, or has a new epoch.
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


-- Every version that an inference worker has found in the models folder, with its card. The active version is the one
-- activated last among those without an error.
CREATE TABLE models (
    version       text PRIMARY KEY,
    card          jsonb NOT NULL,                       -- card.json as published; {} if refused when found
    error         text,                                 -- why it is refused; null if it can be served
    found_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    activated_at  timestamptz,                          -- when it was last activated
    served_at     timestamptz                           -- when a worker last began to serve it
);

CREATE FUNCTION notify_models() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('models', '');
    RETURN NULL;
END $$;

CREATE TRIGGER models_changed AFTER INSERT OR UPDATE ON models
    FOR EACH STATEMENT EXECUTE FUNCTION notify_models();


-- Each service has a role with only the permissions that it needs. Passwords are set elsewhere: by
-- scripts/database-passwords in a container, by scripts/local/stack.py in local mode.
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
