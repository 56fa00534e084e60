//! Tests of `params`.

use super::*;
use crate::error::{Kind, classify};
use secrecy::ExposeSecret;

fn of(text: &str) -> ConnectParams {
    ConnectParams::of(&Connection::parse("hr_db", text).unwrap()).unwrap()
}

fn refused(text: &str) -> Failure {
    let failure = classify(&ConnectParams::of(&Connection::parse("hr_db", text).unwrap()).unwrap_err());
    assert_eq!(failure.kind, Kind::Config, "{}", failure.what);
    failure
}

fn shown(params: &ConnectParams) -> Vec<String> {
    params.endpoints.iter().map(ToString::to_string).collect()
}

#[test]
fn a_plain_uri_gives_host_port_database_user_and_password() {
    let params = of("postgres://u:p%40@db.example:6432/hr");
    assert_eq!(shown(&params), ["db.example:6432"]);
    assert_eq!((params.database.as_str(), params.user.as_str()), ("hr", "u"));
    assert_eq!(params.password.as_ref().unwrap().expose_secret(), "p@");
    assert_eq!(params.tls.mode, SslMode::Prefer);
    assert_eq!(params.target, Target::Any);
    assert_eq!(params.keepalives, KEEPALIVES);
    assert!(!format!("{params:?}").contains("p@"));
}

#[test]
fn several_hosts_take_their_own_ports_or_share_one() {
    assert_eq!(shown(&of("postgres://u:p@h1,h2/db")), ["h1:5432", "h2:5432"]);
    assert_eq!(shown(&of("postgres://u:p@h1,h2/db?port=5433")), ["h1:5433", "h2:5433"]);
    assert_eq!(shown(&of("postgres://u:p@h1,h2/db?port=5433,5434")), ["h1:5433", "h2:5434"]);
    assert_eq!(shown(&of("postgres://u:p@h1%3A5433%2Ch2%3A5434/db")), ["h1:5433", "h2:5434"]);
    assert_eq!(shown(&of("postgres://u:p@[::1]:5433/db")), ["[::1]:5433"]);
    assert!(refused("postgres://u:p@h1,h2/db?port=1,2,3").what.ends_with("it has 3 ports for 2 hosts"));
    assert!(refused("postgres://u:p@h1,,h2/db").what.contains("empty"));
}

#[test]
fn a_socket_directory_is_taken_from_host_or_from_the_query() {
    let both = ["postgres://u@%2Fvar%2Frun%2Fpostgresql/db", "postgres://u@/db?host=/var/run/postgresql"];
    for text in both {
        assert_eq!(shown(&of(text)), ["/var/run/postgresql/.s.PGSQL.5432"]);
    }
}

#[test]
fn options_are_read_whatever_their_json_type() {
    for timeout in ["10", "\"10\""] {
        let extra =
            format!(r#"{{"connect_timeout": {timeout}, "keepalives_idle": {timeout}, "keepalives": 1}}"#);
        let text =
            format!(r#"{{"conn_type":"postgres","host":"h","schema":"d","login":"u","extra":{extra}}}"#);
        let params = of(&text);
        assert_eq!(params.connect_timeout, Some(Duration::from_secs(10)));
        assert_eq!(params.keepalives.idle_s, 10);
    }
    assert!(!of("postgres://u@h/d?keepalives=0").keepalives.on);
    assert!(
        refused("postgres://u@h/d?connect_timeout=soon")
            .what
            .ends_with("its connect_timeout is no whole number")
    );
}

#[test]
fn a_root_certificate_is_verified_against_even_where_the_mode_alone_would_not() {
    let verification = |query: &str| of(&format!("postgres://u@h/d?{query}")).tls.verification();
    assert_eq!(verification("sslmode=require"), Verification::Nothing);
    assert_eq!(verification("sslmode=require&sslrootcert=/ca.pem"), Verification::Chain);
    assert_eq!(verification("sslmode=verify-ca"), Verification::Chain);
    assert_eq!(verification("sslmode=verify-full"), Verification::ChainAndName);
    assert_eq!(verification("sslrootcert=system"), Verification::ChainAndName);
    assert!(refused("postgres://u@h/d?sslmode=require&sslrootcert=system").what.contains("verify-full"));
}

#[test]
fn an_option_that_cannot_be_obeyed_is_refused_by_name() {
    assert!(refused("postgres://u@h/d?sslpassword=MARK").what.contains("its sslpassword is refused"));
    assert!(
        refused("postgres://u@h/d?gssencmode=require")
            .what
            .ends_with("its gssencmode can only be disable or prefer here")
    );
    assert!(refused("postgres://u@h/d?sslmode=MARK").what.contains("none of disable, allow, prefer"));
    assert!(refused("postgres://u@h/d?sslcert=/c.pem").what.ends_with("it has sslcert and no sslkey"));
    assert!(refused("postgres://u@h/d?sslcrl=/crl.pem").what.contains("its sslcrl is refused"));
    of("postgres://u@h/d?gssencmode=disable&krbsrvname=x&application_name=y&client_encoding=UTF8");
}

#[test]
fn a_misspelt_option_is_named_with_its_nearest_and_an_odd_one_is_not_repeated() {
    let failure = refused("postgres://u@h/d?sslmod=require");
    assert!(failure.what.ends_with("sslmod is no option of libpq"));
    assert_eq!(failure.hint.as_deref(), Some("The nearest option is sslmode."));
    assert!(!refused("postgres://u@h/d?MARKMARK=1").what.contains("MARK"));
}

#[test]
fn what_airflow_keeps_to_itself_changes_nothing() {
    of("postgres://u@h/d?iam=false&cursor=dictcursor&aws_conn_id=x&sqlalchemy_scheme=postgresql%2Bpsycopg");
}

#[test]
fn another_type_is_named_unless_it_could_be_a_secret() {
    assert!(refused("mysql://u:p@h/db").what.ends_with("its type is mysql, not postgres"));
    assert!(refused("postgresql+psycopg2://u:p@h/db").hint.unwrap().contains("postgres://"));
    let failure = refused("MARKSECRET:rest@h/db");
    assert!(!failure.what.to_lowercase().contains("mark"), "{}", failure.what);
    assert!(refused("//u:p@h/db").what.contains("it has no type"));
}

#[test]
fn a_connection_without_database_user_or_host_is_refused() {
    assert!(refused("postgres://u:p@h").what.ends_with("it names no database (its schema)"));
    assert!(refused("postgres://h/db").what.ends_with("it names no user (its login)"));
    assert!(refused("postgres://u:p@/db").what.ends_with("it names no host"));
    assert!(
        refused("postgres://u@h/db?__extra__=%5B1%5D").what.ends_with("its extra is JSON, but no object")
    );
    assert!(refused("postgres://u@h/db?__extra__=MARK").what.ends_with("its extra is not JSON"));
}

#[test]
fn a_password_that_broke_the_uri_is_never_shown() {
    for text in [
        "postgres://u:/MARK@h/db",
        "postgres://u:1?MARK@h/db",
        "postgres://u:1?MARK=1@h/db",
        "postgres://u/MARK@h:1/db",
    ] {
        let failure = refused(text);
        assert!(!format!("{} {:?}", failure.what, failure.hint).contains("MARK"), "{}", failure.what);
    }
}
