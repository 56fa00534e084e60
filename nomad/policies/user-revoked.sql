-- Revocation statements: nothing is owned by the user, nothing is granted to it but its group.
ALTER ROLE "{{name}}" NOLOGIN;
REVOKE sankofa_group FROM "{{name}}";
DROP ROLE "{{name}}";
