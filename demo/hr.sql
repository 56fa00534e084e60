-- HR of a law school: departments, employees, contracts, payroll. Made up; the same on every run.
CREATE TYPE grade AS ENUM ('assistant', 'lecturer', 'professor', 'administration');
CREATE TABLE department (
    id         int PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE employee (
    id          int PRIMARY KEY,
    first_name  text NOT NULL,
    last_name   text NOT NULL,
    email       text NOT NULL UNIQUE,
    national_id text NOT NULL,
    birth_date  date NOT NULL,
    grade       grade NOT NULL,
    department  int NOT NULL REFERENCES department,
    hired_on    date NOT NULL,
    extra       jsonb NOT NULL DEFAULT '{}',
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON employee (updated_at);
CREATE TABLE contract (
    employee   int NOT NULL REFERENCES employee ON DELETE CASCADE,
    starts_on  date NOT NULL,
    ends_on    date,
    share      numeric(3,2) NOT NULL CHECK (share > 0 AND share <= 1),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (employee, starts_on)
);
CREATE TABLE payslip (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    employee int NOT NULL,
    month    date NOT NULL,
    gross    numeric(10,2) NOT NULL
);

INSERT INTO department (id, name, updated_at)
SELECT row_number() OVER (), name, now() - interval '30 days' FROM unnest(ARRAY['Public Law', 'Private Law', 'Criminal Justice',
    'Human Rights', 'Commercial Law', 'Library', 'Registry', 'Finance', 'IT Service']) AS name;

-- "Random" is a remainder of the number of the row by a prime: the same on every machine.
INSERT INTO employee (id, first_name, last_name, email, national_id, birth_date, grade, department, hired_on, extra, updated_at)
SELECT n, first, last, lower(first || '.' || last || n || '@law.example'), 'GHA-' || lpad((n * 7919 % 999983)::text, 9, '0'),
       date '1958-01-01' + n * 7717 % 14000, (enum_range(NULL::grade))[1 + n * 31 % 4], 1 + n * 37 % 9,
       date '2004-01-01' + n * 4127 % 7000,
       jsonb_build_object('languages', to_jsonb((ARRAY['en', 'fr', 'de', 'tw'])[1 : 1 + n % 4]), 'office', 'B' || n % 40),
       now() - n * interval '3 hours'
FROM generate_series(1, 900) AS n,
     LATERAL (SELECT (ARRAY['Ama', 'Kofi', 'Akosua', 'Kwame', 'Efua', 'Yaw', 'Abena', 'Kwesi', 'Anna', 'Luca', 'Claire',
                            'Jonas', 'María', 'Pierre', 'Zoë', 'Søren'])[1 + n * 13 % 16] AS first,
                     (ARRAY['Mensah', 'Owusu', 'Boateng', 'Asante', 'Agyeman', 'Osei', 'Addo', 'Müller', 'Rossi',
                            'Dubois', 'García', 'Nowak', 'Lindgren'])[1 + n * 29 % 13] AS last) AS name;
INSERT INTO contract (employee, starts_on, ends_on, share, updated_at)
SELECT id, hired_on, CASE WHEN id % 6 = 0 THEN hired_on + 730 END, (ARRAY[1, 0.8, 0.5])[1 + id % 3], updated_at FROM employee;
INSERT INTO payslip (employee, month, gross)
SELECT id, month, 1800 + id * 997 % 5200 FROM employee, generate_series(date '2026-01-01', date '2026-06-01', '1 month') AS month;
