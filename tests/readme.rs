//! The README's tables are those of the code. `UPDATE_README=1 cargo test --test readme` writes them.

use manhole::config::{ENVIRONMENT, OPTIONS};
use manhole::shell::commands;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

/// The README with the rows between the two marks of `name` replaced.
fn with_rows(text: &str, name: &str, rows: &str) -> String {
    let begin = text.find(&format!("<!-- {name}:")).expect("a begin mark");
    let table = begin + text[begin..].find("|---|").expect("a table");
    let first = table + text[table..].find('\n').expect("a line") + 1;
    let end = text.find(&format!("<!-- end of {name} -->")).expect("an end mark");
    format!("{}{rows}{}", &text[..first], &text[end..])
}

#[test]
fn tables_are_those_of_the_code() {
    let text = std::fs::read_to_string(PATH).expect("README.md");
    let options: String = OPTIONS
        .iter()
        .map(|option| {
            format!("| `{}` | `{}` | {} Expects {}. |\n", option.name, option.default, option.help, option.expects)
        })
        .collect();
    let cell = |text: &str| text.replace('|', "\\|");
    let commands: String = commands::all()
        .map(|command| {
            format!(
                "| `{}` | {} | {} |\n",
                cell(format!("{} {}", command.name, command.synopsis).trim()),
                command.level.name(),
                cell(command.summary)
            )
        })
        .collect();
    let environment: String = ENVIRONMENT.iter().map(|(value, help)| format!("| `{value}` | {help} |\n")).collect();
    let tables = [("environment", environment), ("options", options), ("commands", commands)];
    let expected = tables.iter().fold(text.clone(), |text, (name, rows)| with_rows(&text, name, rows));
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(PATH, expected).expect("README.md");
    } else {
        assert!(text == expected, "README.md is not what the code says: UPDATE_README=1 cargo test --test readme");
    }
}

/// `tests/CHECKLIST.md` answers each test of python-manhole with one of ours: these exist.
#[test]
fn the_checklist_names_tests_that_exist() {
    let folder = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"));
    let checklist = std::fs::read_to_string(folder.join("CHECKLIST.md")).expect("tests/CHECKLIST.md");
    let mut answered = 0;
    for row in checklist.lines().filter(|line| line.starts_with("| `test_")) {
        answered += 1;
        // `file: test`, once or more; what needs Python says so instead.
        let answers = row.split('`').filter_map(|word| word.split_once(": "));
        let mut count = 0;
        for (file, name) in answers {
            count += 1;
            let source = std::fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(source.contains(&format!("fn {name}(")), "{row}: {file} has no test {name}");
        }
        assert!(count > 0 || row.contains("Python"), "{row}: neither a test of ours nor a reason");
    }
    assert_eq!(answered, 45, "python-manhole 1.8.1 has 35 tests of the library and 10 of the client");
}
