-- Marks by course, for Metabase. Runs in the commit that publishes, as role `marts`.
CREATE TABLE IF NOT EXISTS marts.course_marks (course text PRIMARY KEY, title text, students bigint, mean_points numeric(5,1));
DELETE FROM marts.course_marks;
INSERT INTO marts.course_marks
SELECT c.code, c.title, count(*), avg(m.points)
FROM records.course c JOIN records.mark m ON m.course = c.code
GROUP BY c.code, c.title;
GRANT SELECT ON marts.course_marks TO metabase;
