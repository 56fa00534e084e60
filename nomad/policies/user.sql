-- Creation statements of a database role in Vault, for every class: put the class's group role in place
-- of sankofa_group (docs/grants: sankofa_rows, sankofa_owner, sankofa_backup, sankofa_drill).
-- The group has the rights, and owns what is made; the user only belongs to it, so that nothing hangs on
-- the user when it is dropped. `password_authentication=scram-sha-256` in the engine's config has Vault send
-- a verifier, never the password; the setting is for a Vault that is too old for that.
SET LOCAL password_encryption = 'scram-sha-256';
CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' CONNECTION LIMIT 40;
GRANT sankofa_group TO "{{name}}";
