-- Which copy of a device's store the client id belongs to: the incarnation that pushed last, a counter, a dot and a random
-- text. The store names its next one before it pushes under it, so a copy is known by the one that it does not have.
CREATE TABLE syncd.sync_devices (
    user_no     integer NOT NULL,
    client_no   integer NOT NULL,
    incarnation text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_no, client_no)
);

ALTER TABLE syncd.sync_devices ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE (incarnation) ON syncd.sync_devices TO syncd_runtime;
