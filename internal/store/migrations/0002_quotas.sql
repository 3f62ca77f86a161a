ALTER TABLE access_key ADD COLUMN month_limit BIGINT NOT NULL DEFAULT 0 CHECK (month_limit >= 0); -- bytes, 0 is none

-- What was carried, both directions added. There is no place for anything finer than a month.
CREATE TABLE traffic (
    month     BIGINT NOT NULL, -- 202703 is March 2027, in UTC
    key_id    TEXT   NOT NULL REFERENCES access_key (id),
    device_id TEXT   NOT NULL, -- '' is all devices together that are forgotten
    bytes     BIGINT NOT NULL CHECK (bytes >= 0),
    PRIMARY KEY (month, key_id, device_id)
);
