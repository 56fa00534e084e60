-- What the role of the source connection may do: read, and see when other transactions began.
-- In hr it may not read national_id: the grant is the hard limit behind `guard: never`.
GRANT USAGE ON SCHEMA public TO sankofa_rows;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO sankofa_rows;
SELECT current_database() = 'hr' AS hr \gset
\if :hr
REVOKE SELECT ON employee FROM sankofa_rows;
GRANT SELECT (id, first_name, last_name, email, birth_date, grade, department, hired_on, extra, updated_at)
    ON employee TO sankofa_rows;
\endif
