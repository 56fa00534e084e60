-- Class `drill`, on the server that drills and restores go to: make databases, own what is restored, drop it.
-- Run it in database postgres as a superuser. Drill with `--no-owner`: roles of the source are not needed then.
CREATE ROLE sankofa_drill LOGIN PASSWORD 'change-me';
ALTER ROLE sankofa_drill CREATEDB;
