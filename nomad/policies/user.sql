-- Creation statements of a database role in Vault, for every class. Put the group role of the class in
-- place of sankofa_group (docs/vault.md: sankofa_rows, sankofa_owner, sankofa_backup).
-- The group has the rights and owns what is made. The user only belongs to it, so nothing hangs on the user
-- when it is dropped. password_authentication=scram-sha-256 in the config of the engine has Vault send a
-- verifier, never the password, and the setting is for a Vault that is too old for that.
-- Vault splits this text at every semicolon, in comments too.
SET LOCAL password_encryption = 'scram-sha-256';
CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' CONNECTION LIMIT 40;
GRANT sankofa_group TO "{{name}}";
