//! The README's tables are those of the code. `UPDATE_README=1 cargo test --test readme` writes them.

use manhole::config::OPTIONS;
use manhole::shell::commands::TABLE;

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
    let commands: String = TABLE
        .iter()
        .map(|command| {
            format!(
                "| `{}` | {} |\n",
                cell(format!("{} {}", command.name, command.synopsis).trim()),
                cell(command.summary)
            )
        })
        .collect();
    let expected = with_rows(&with_rows(&text, "options", &options), "commands", &commands);
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(PATH, expected).expect("README.md");
    } else {
        assert!(text == expected, "README.md is not what the code says: UPDATE_README=1 cargo test --test readme");
    }
}
