//! A configuration as operators see it: the keys and values of its file, without comments and blank lines.
//!
//! Comments may hold anything, so they are left out. Certificates, keys and tables are in files of their own, which are named here and not read.

use toml_edit::{DocumentMut, Item, TableLike, Value};

/// The text of a file without comments. One that is not TOML, which no daemon runs by, gives an empty text.
pub fn without_comments(text: &str) -> String {
    let Ok(mut document) = text.parse::<DocumentMut>() else { return String::new() };
    document.set_trailing("");
    strip_table(document.as_table_mut());
    document.to_string().trim_start().to_owned()
}

fn strip_table(table: &mut dyn TableLike) {
    for (mut key, item) in table.iter_mut() {
        key.leaf_decor_mut().clear();
        key.dotted_decor_mut().clear();
        match item {
            Item::Value(value) => strip_value(value),
            Item::Table(table) => {
                table.decor_mut().clear();
                strip_table(table);
            }
            Item::ArrayOfTables(tables) => {
                for table in tables.iter_mut() {
                    table.decor_mut().clear();
                    strip_table(table);
                }
            }
            Item::None => {}
        }
    }
}

fn strip_value(value: &mut Value) {
    value.decor_mut().clear();
    match value {
        Value::Array(array) => {
            array.iter_mut().for_each(strip_value);
            array.fmt();
        }
        Value::InlineTable(table) => {
            strip_table(table);
            table.fmt();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_in_their_order_and_comments_do_not() {
        let text = "# password of the lab: hunter2\n\n[node] # a\nname = \"nh-1\"   # b\n\n\
                    # c\nlisten = [ # d\n  \"127.0.0.1:1\", # e\n  \"127.0.0.1:2\" ] # f\n\n\n[[port]]\nname=\"p0\"\n\
                    # g\n[[port]]\nname = \"p1\"\nx = { a = 1, # h\n b = 2 }\n# the end\n";
        let expected = "[node]\nname = \"nh-1\"\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n\n\
                        [[port]]\nname = \"p0\"\n\n[[port]]\nname = \"p1\"\nx = { a = 1, b = 2 }\n";
        assert_eq!(without_comments(text), expected);
    }

    #[test]
    fn the_examples_mean_the_same_without_comments() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/examples");
        let mut read = 0;
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().extension().is_none_or(|kind| kind != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let shown = without_comments(&text);
            assert!(!shown.contains('#'), "{shown}");
            let (whole, without): (toml::Table, toml::Table) =
                (text.parse().unwrap(), shown.parse().unwrap());
            assert_eq!(whole, without, "{}", entry.path().display());
            read += 1;
        }
        assert!(read > 5, "{read} examples");
    }
}
