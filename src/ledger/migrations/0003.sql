-- Schema `sankofa`, version 3: of which failures people have been told, so that each is told once.
CREATE TABLE sankofa.notice (
    subject text PRIMARY KEY,
    told_of text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);
