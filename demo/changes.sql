-- A day of changes, by database (\if): updates, inserts and deletes.
SELECT current_database() = 'hr' AS hr, current_database() = 'records' AS records \gset
\if :hr
UPDATE employee SET grade = 'professor', updated_at = now() WHERE grade = 'lecturer' AND id % 9 = 0;
INSERT INTO employee (id, first_name, last_name, email, national_id, birth_date, grade, department, hired_on)
SELECT n, 'Kwaku', 'Ansah', 'kwaku.ansah' || n || '@law.example', 'GHA-' || n, '1991-05-06', 'assistant', 4, '2026-07-01'
FROM generate_series(901, 912) AS n;
DELETE FROM employee WHERE id IN (17, 170, 700); -- their contracts go too
INSERT INTO payslip (employee, month, gross) SELECT id, '2026-07-01', 1900 + id * 997 % 5200 FROM employee;
\elif :records
UPDATE student SET standing = 'graduated', updated_at = now() WHERE standing = 'enrolled' AND id % 40 = 0;
DELETE FROM enrolment WHERE student % 500 = 1;
UPDATE "Course" SET title = title || ' (new)' WHERE code = 'LAW107';
\else
UPDATE ticket SET state = 'closed', closed_at = '2026-04-22 16:00+00', handled_in = '90 minutes' WHERE state = 'waiting' AND id % 5 = 0;
INSERT INTO ticket_event (ticket, at, what)
SELECT id, '2026-04-22 16:00+00', '{"step": "closed"}' FROM ticket WHERE closed_at = '2026-04-22 16:00+00';
\endif
