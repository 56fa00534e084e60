-- Student records of a law school: students, courses, enrolments, marks. Made up; the same on every run.
CREATE TYPE standing AS ENUM ('applicant', 'enrolled', 'graduated', 'left');
CREATE TABLE student (
    id         int PRIMARY KEY,
    full_name  text NOT NULL,
    email      text,
    phone      text,
    birth_date date NOT NULL,
    country    text NOT NULL,
    standing   standing NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE "Course" (
    code    text PRIMARY KEY,
    title   text NOT NULL,
    credits int NOT NULL,
    term    daterange NOT NULL
);
CREATE TABLE enrolment (
    student     int REFERENCES student,
    course      text REFERENCES "Course",
    enrolled_on date NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (student, course)
);
CREATE INDEX ON enrolment (updated_at);
CREATE TABLE mark (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    student int NOT NULL,
    course  text NOT NULL,
    points  numeric(4,1) NOT NULL,
    FOREIGN KEY (student, course) REFERENCES enrolment ON DELETE CASCADE
);

INSERT INTO student (id, full_name, email, phone, birth_date, country, standing, updated_at)
SELECT n, first || ' ' || last, CASE WHEN n % 11 > 0 THEN lower(last) || n || '@students.law.example' END,
       CASE WHEN n % 3 > 0 THEN '+233 20 ' || lpad((n * 7919 % 9999991)::text, 7, '0') END,
       date '1990-01-01' + n * 7717 % 6000, (ARRAY['GH', 'GH', 'GH', 'NG', 'CI', 'FR', 'DE', 'ES'])[1 + n * 5 % 8],
       (ARRAY['enrolled', 'enrolled', 'enrolled', 'graduated', 'left']::standing[])[1 + n * 3 % 5],
       now() - n * interval '1 hour'
FROM generate_series(1, 4000) AS n,
     LATERAL (SELECT (ARRAY['Adwoa', 'Kojo', 'Esi', 'Nana', 'Kwabena', 'Afia', 'Fiifi', 'Marie', 'Lukas', 'Inés',
                            'Chiara', 'Émile', 'Freya'])[1 + n * 17 % 13] AS first,
                     (ARRAY['Appiah', 'Ofori', 'Sarpong', 'Tetteh', 'Quaye', 'Amoah', 'Diallo', 'Okafor', 'Schmidt',
                            'Moreau', 'López', 'Bianchi'])[1 + n * 23 % 12] AS last) AS name;
INSERT INTO "Course"
SELECT 'LAW' || 100 + n, (ARRAY['Constitutional', 'Contract', 'Criminal', 'Family', 'Land', 'Maritime', 'Tax',
           'International'])[1 + n % 8] || ' Law ' || (ARRAY['I', 'II', 'III'])[1 + n / 8 % 3], 5 + n % 3 * 5,
       daterange(date '2026-01-12' + n % 2 * 210, date '2026-05-30' + n % 2 * 210)
FROM generate_series(0, 23) AS n;
INSERT INTO enrolment (student, course, enrolled_on, updated_at)
SELECT s, 'LAW' || 100 + (s * 7 + k * 5) % 24, date '2026-01-05' + s % 20, now() - s * interval '1 hour'
FROM generate_series(1, 4000) AS s, generate_series(0, 2) AS k;
INSERT INTO mark (student, course, points)
SELECT student, course, 25 + (student * 41 + length(course) * 7 + right(course, 2)::int * 13) % 75 FROM enrolment WHERE student % 4 > 0;
