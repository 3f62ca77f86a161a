-- Ids are lower-case hexadecimal, so that a prefix can be asked for with LIKE and a person can read them.

CREATE TABLE access_key (
    id          TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    name        TEXT    NOT NULL CHECK (name <> ''),
    max_devices BIGINT  NOT NULL CHECK (max_devices > 0),
    expires     BIGINT  NOT NULL CHECK (expires >= 0), -- seconds since 1970, 0 is never
    revoked     BOOLEAN NOT NULL DEFAULT FALSE
);

-- Revoked keys stay, for their ids; their names are free again.
CREATE UNIQUE INDEX access_key_name ON access_key (name) WHERE NOT revoked;

CREATE TABLE device (
    id          TEXT    NOT NULL PRIMARY KEY CHECK (length(id) = 32),
    key_id      TEXT    NOT NULL REFERENCES access_key (id),
    expires_day BIGINT  NOT NULL CHECK (expires_day >= 0), -- days since 1970: there is no place for anything finer
    revoked     BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE INDEX device_key_id ON device (key_id);
CREATE INDEX device_revoked ON device (id) WHERE revoked;
