-- Service desk of a law school: agents, tickets, their history. Made up; the same on every run.
CREATE TABLE agent (id int PRIMARY KEY, name text NOT NULL, team text NOT NULL);
CREATE TABLE ticket (
    id         int PRIMARY KEY,
    title      text NOT NULL,
    state      text NOT NULL CHECK (state IN ('new', 'open', 'waiting', 'closed')),
    priority   int NOT NULL,
    opened_at  timestamptz NOT NULL,
    closed_at  timestamptz,
    requester  text NOT NULL,
    agent      int REFERENCES agent,
    tags       text[] NOT NULL,
    handled_in interval
);
CREATE TABLE ticket_event (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ticket int NOT NULL,
    at     timestamptz NOT NULL,
    what   jsonb NOT NULL
);

INSERT INTO agent SELECT n, (ARRAY['Akua', 'Kofi', 'Yaa', 'Ebo', 'Ines', 'Jan', 'Paul', 'Lena'])[n],
    (ARRAY['network', 'accounts', 'rooms'])[1 + n % 3] FROM generate_series(1, 8) AS n;
INSERT INTO ticket
SELECT n, (ARRAY['No network in room ', 'Projector broken in ', 'Password of office ', 'Printer jam in '])[1 + n % 4] || n % 60,
       state, 1 + n * 7 % 4, opened, CASE WHEN state = 'closed' THEN opened + took END,
       'user' || n * 31 % 700 || '@law.example', CASE WHEN state <> 'new' THEN 1 + n % 8 END,
       (ARRAY['exam', 'moot court', 'remote', 'library'])[1 : n % 4], CASE WHEN state = 'closed' THEN took END
FROM generate_series(1, 2500) AS n,
     LATERAL (SELECT timestamptz '2026-03-01 07:00+00' + n * interval '29 minutes' AS opened, n * 13 % 50 * interval '1 hour' AS took,
                     (ARRAY['closed', 'closed', 'closed', 'open', 'waiting', 'new'])[1 + n * 5 % 6] AS state) AS made;
INSERT INTO ticket_event (ticket, at, what)
SELECT id, opened_at + k * interval '17 minutes', jsonb_build_object('step', k, 'by', agent)
FROM ticket, generate_series(0, 2) AS k;
