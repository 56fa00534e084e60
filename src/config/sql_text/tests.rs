use super::*;

fn split_ok(sql: &str) -> Vec<String> {
    statements(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[test]
fn a_script_is_split_at_its_own_semicolons_only() {
    assert_eq!(split_ok("select 1; select 2"), ["select 1", "select 2"]);
    assert_eq!(split_ok(";; select 1 ;;"), ["select 1"]);
    assert_eq!(split_ok("-- only a comment;\n/* ; */"), Vec::<String>::new());
    assert_eq!(split_ok("-- why\nselect 1 -- what\n;"), ["select 1"]);
    for one in [
        "select ';'",
        "select 'it''s; fine'",
        r"select E'\';'",
        "select E'a'\n -- b\n '\\';'",
        "select $$ ; $$",
        "select $a$ $$ ; $b$ $a$",
        "select \"a;b\", \"c\"\"d;\"",
        "select /* ; /* ; */ ; */ 1",
        "select 1 -- ;\n",
        "create rule r as on insert to t do also (insert into u values (1); insert into v values (2))",
        "create or replace function f() returns int language sql begin atomic select case when true then 1 end; select 2; end",
        "create function f() returns void language plpgsql as $f$ begin perform 1; end $f$",
        "select a$b$, c$b$ from t",
        "select U&'d\\0061t;'",
        "select b'1', x'f;', n';'",
        "select 'a'\n';'",
    ] {
        assert_eq!(split_ok(&format!("{one}; select 2")).len(), 2, "{one}");
    }
}

#[test]
fn a_standard_string_ends_at_its_quote_whatever_stands_before_it() {
    assert_eq!(split_ok(r"select '\'; select 2").len(), 2);
}

#[test]
fn what_is_left_open_is_refused() {
    for sql in [
        "select 'a",
        "select \"a",
        "select $$ a",
        "select /* /* */",
        "select (1",
        "select 1)",
        "select [1)",
        "x(",
    ] {
        assert!(statements(sql).is_err(), "{sql}");
    }
    assert!(statements("create function f() returns int begin atomic select 1;").is_err());
}

#[test]
fn transaction_control_is_refused_wherever_a_statement_begins() {
    for sql in [
        "BEGIN",
        "commit",
        "END",
        "rollback to s",
        "abort",
        "Savepoint s",
        "release s",
        "start transaction",
        "prepare transaction 'x'",
        "set transaction isolation level serializable",
        "set local transaction read only",
        "set session characteristics as transaction read only",
        "select 1; /* x */ commit",
        "discard all",
        "copy t from stdin",
        "\\i other.sql",
        "select $1",
    ] {
        assert!(statements(sql).is_err(), "{sql}");
    }
}

#[test]
fn a_change_of_role_is_refused_in_every_spelling_a_tokenizer_can_see() {
    for sql in [
        "set role boss",
        "SET LOCAL ROLE boss",
        "set session role boss",
        "set \"role\" to boss",
        "set role = boss",
        "set/**/role/**/boss",
        "set session authorization boss",
        "set local session authorization boss",
        "set session session authorization default",
        "set session_authorization = boss",
        "reset role",
        "reset session authorization",
        "reset all",
        "select set_config('role', 'boss', false)",
        "select pg_catalog.set_config('session_authorization', 'boss', false)",
        "select set_config(E'role', 'boss', false)",
        "do $$ begin reset role; end $$",
        "do $a$ begin execute $$ set role boss $$; end $a$",
        "create function f() returns void language plpgsql as $$ begin set local role x; end $$",
        "alter function f() set role to boss",
        "alter function f() set role = boss",
        "create function f() returns int set \"ROLE\" = boss language sql as $$ select 1 $$",
        "select set_config('ROLE', 'boss', false)",
        "select set_config(E'\\162ole', 'boss', false)",
        "select set_config('ro' || 'le', 'boss', false) -- the name is not one string",
        "update pg_settings set setting = 'boss' where name = 'role'",
    ] {
        assert!(statements(sql).is_err(), "{sql}");
    }
}

#[test]
fn words_in_comments_strings_and_names_are_only_words() {
    for sql in [
        "select 'commit; set role x' -- rollback",
        "select \"commit\" from \"set role\"",
        "select role from t",
        "update t set role = 'x' where role = 'y'",
        "create view v as select 1 as begin_at, 2 as \"end\"",
        "comment on view v is 'reset role'",
        "set search_path = marts",
        "set local statement_timeout = '1min'",
        "create table t (role text); grant select on t to reader",
        "do $$ begin update t set role = 'x'; end $$",
        "select set_config('search_path', 'x', true)",
    ] {
        assert!(statements(sql).is_ok(), "{sql}: {:?}", statements(sql));
    }
}

#[test]
fn a_filter_is_one_condition_and_cannot_end_itself() {
    for sql in ["id > 3", "name = 'a;b'", "x in (1, 2)", "d > now() - interval '1 day'", "\"Odd\" is null"] {
        assert_eq!(condition(sql), Ok(()), "{sql}");
    }
    for sql in [
        "",
        "  ",
        "1=1; drop table x",
        "1=1 -- x",
        "1=1 /* x */",
        "1=1) or (1=1",
        "(1=1",
        "x = 'a",
        "x = $1",
        "\\x",
    ] {
        assert!(condition(sql).is_err(), "{sql}");
    }
}

#[test]
fn a_query_is_one_select() {
    for sql in [
        "select 1",
        "SELECT 1;",
        "with a as (select 1) select * from a",
        "(select 1) union select 2",
        "table t",
    ] {
        assert_eq!(query(sql), Ok(()), "{sql}");
    }
    for sql in ["", "delete from t", "select 1; select 2", "commit", "-- nothing"] {
        assert!(query(sql).is_err(), "{sql}");
    }
}

#[test]
fn a_mention_of_a_guarded_column_is_seen_as_sql_reads_it() {
    let guarded = ["national_id", "Odd"];
    assert_eq!(mentions("NATIONAL_ID like '1%'", guarded), Some("national_id"));
    assert_eq!(mentions("e.\"national_id\" is null", guarded), Some("national_id"));
    assert_eq!(mentions("\"Odd\" = 1", guarded), Some("Odd"));
    assert_eq!(mentions("odd = 1 and x = 'national_id'", guarded), None);
    assert_eq!(mentions("national_ids = 1", guarded), None);
}

#[test]
fn the_row_as_a_whole_is_seen() {
    for sql in [
        "employee::text like '%1%'",
        "(employee).x = 1",
        "to_json(employee.*) is null",
        "Employee is not null",
    ] {
        assert!(whole_row(sql, "employee"), "{sql}");
    }
    for sql in ["employee.id = 3", "x.employee = 3", "employee_id = 1", "x = 'employee'"] {
        assert!(!whole_row(sql, "employee"), "{sql}");
    }
}

proptest::proptest! {
    #[test]
    fn tokens_cover_the_text_but_white_space_and_nothing_panics(sql in "[ -~\n'\"$;()a-eé]{0,60}") {
        if let Ok(found) = scan(&sql) {
            let mut end = 0;
            for token in &found {
                proptest::prop_assert!(sql[end..token.start].chars().all(|c| c.is_ascii_whitespace()));
                proptest::prop_assert!(token.end > token.start);
                end = token.end;
            }
            proptest::prop_assert!(sql[end..].chars().all(|c| c.is_ascii_whitespace()));
        }
        let _ = (statements(&sql), condition(&sql), query(&sql), whole_row(&sql, "a"));
    }
}
