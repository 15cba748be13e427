//! The table of options, and what option strings mean.

use super::*;

fn error(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

#[test]
fn the_defaults_of_the_table_are_the_defaults() {
    let text: Vec<String> = OPTIONS.iter().map(|spec| format!("{}={}", spec.name, spec.default)).collect();
    let (spelt, mut silent) = (Config::parse(&text.join(", ")).unwrap(), Config::default());
    silent.given = spelt.given.clone();
    assert_eq!(format!("{spelt:?}"), format!("{silent:?}"));
}

#[test]
fn python_spelling_is_understood() {
    let config =
        Config::parse(r#"verbose=False, socket_path="/tmp/a,b-{pid}", sigmask=["USR1", SIGUSR2], start_timeout=1.5"#);
    let config = config.unwrap();
    assert!(!config.verbose && config.follows_forks());
    assert_eq!(config.socket_path.as_deref(), Some("/tmp/a,b-{pid}"));
    assert_eq!(config.sigmask, 1 << 9 | 1 << 11);
    assert_eq!(config.start_timeout, Duration::from_millis(1500));
    assert_eq!(config.given("verbose"), Some("False"));
}

#[test]
fn errors_name_the_option_and_the_way_out() {
    assert_eq!(error("verbos=True"), r#"unknown option "verbos"; did you mean verbose?"#);
    assert_eq!(error("verbose=3.5"), "option verbose expects True or False, not 3.5");
    assert_eq!(error("strict=True,strict=True"), "option strict is given twice");
    assert!(error("start_timeout=-1").contains("expects seconds"));
    assert!(error("max_frames=0").contains("from 1 to 1000000"));
}

#[test]
fn signals_that_open_the_manhole() {
    let config = Config::parse("activate_on=SIGUSR1, oneshot_on=RTMIN+3").unwrap();
    assert_eq!((config.activate_on, config.oneshot_on), (Some(10), Some(37)));
    assert!(!config.follows_forks());
    assert!(error("activate_on=USR1, oneshot_on=10").starts_with("ConfigurationConflict"));
    for never in ["oneshot_on=KILL", "activate_on=19", "oneshot_on=32", "oneshot_on=65", "activate_on=FOO"] {
        assert!(error(never).contains("a signal that can be caught"), "{never}");
    }
}

#[test]
fn relative_paths_start_at_the_folder_of_the_start_and_abstract_names_are_none() {
    for (given, anchored) in [("run/x", "/srv/run/x"), ("/run/x", "/run/x"), ("@x", "@x"), ("./@x", "/srv/./@x")] {
        let mut config = Config::parse(&format!("socket_path={given}, verbose_destination=@log")).unwrap();
        config.anchor("/srv/");
        assert_eq!(config.socket_path.as_deref(), Some(anchored));
        assert_eq!(config.verbose_destination, Destination::Path("/srv/@log".into()));
    }
}

#[test]
fn only_is_a_glob_on_any_name_of_the_program() {
    let names = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
    let config = Config::parse("only='redis-*'").unwrap();
    assert!(config.wants(&names(&["redis-server"])) && !config.wants(&names(&["sh", "bash"])));
    let config = Config::parse("only=['a', b?d]").unwrap();
    assert!(config.wants(&names(&["bed"])) && !config.wants(&names(&["bread"])));
}
