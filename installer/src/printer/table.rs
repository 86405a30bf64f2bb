//! Any result as tables: a list of objects becomes one, with a row for each, and what stands beside lists comes first.
//!
//! Columns are what scripts can rely on: one row a line, cells apart by two spaces or more, `-` for what is not there.

use serde_json::{Map, Value};

/// Columns that say what a row is about, in the order in which they lead it; the others follow by the alphabet.
const LEADING: [&str; 9] = ["host", "node", "name", "check", "kind", "resource", "file", "address", "action"];
const GAP: &str = "  ";

/// A row: column and cell.
type Row = Vec<(String, String)>;

/// What leads the rows of a list within a row: by which cell that one is known.
#[derive(Clone)]
struct Owner {
    list: String,
    column: String,
    cell: String,
}

struct Table {
    title: String,
    rows: Vec<Row>,
}

pub fn render(value: &Value) -> String {
    let mut tables = Vec::new();
    match value {
        Value::Object(fields) => {
            let own = cells("", fields);
            let rows = own.into_iter().map(|(field, cell)| vec![("field".into(), field), ("value".into(), cell)]);
            tables.push(Table { title: String::new(), rows: rows.collect() });
            lists("", fields, &[], &mut tables);
        }
        Value::Array(items) => list("items", items, &[], &mut tables),
        other => return cell(other),
    }
    tables.retain(|table| !table.rows.is_empty());
    let titled = tables.iter().filter(|table| !table.title.is_empty()).count() > 1;
    tables.iter().map(|table| drawn(table, titled)).collect::<Vec<_>>().join("\n")
}

/// The lists of objects in `fields`, each a table; `about` leads every row: what their owner is called.
fn lists(path: &str, fields: &Map<String, Value>, about: &[Owner], tables: &mut Vec<Table>) {
    for (name, value) in fields {
        let path = joined(path, name);
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => list(&path, items, about, tables),
            Value::Object(below) => lists(&path, below, about, tables),
            _ => {}
        }
    }
}

fn list(path: &str, items: &[Value], about: &[Owner], tables: &mut Vec<Table>) {
    let mut rows: Vec<Row> = Vec::new();
    let mut below = Vec::new();
    for item in items {
        let own = match item {
            Value::Object(fields) => cells("", fields),
            item => vec![("value".to_owned(), cell(item))],
        };
        let mut called = about.to_vec();
        let lead = LEADING.iter().find_map(|lead| own.iter().find(|(column, _)| column == lead));
        called.extend(lead.map(|(column, cell)| Owner {
            list: path.rsplit('.').next().unwrap_or(path).to_owned(),
            column: column.clone(),
            cell: cell.clone(),
        }));
        if let Value::Object(fields) = item {
            lists(path, fields, &called, &mut below);
        }
        let owners = about.iter().map(|owner| {
            let taken = own.iter().any(|(column, _)| *column == owner.column);
            (if taken { owner.list.clone() } else { owner.column.clone() }, owner.cell.clone())
        });
        rows.push(owners.collect::<Row>().into_iter().chain(own).collect());
    }
    tables.push(Table { title: path.to_owned(), rows });
    // the lists of all rows that have the same path are one table
    for table in below {
        match tables.iter_mut().find(|there| there.title == table.title) {
            Some(there) => there.rows.extend(table.rows),
            None => tables.push(table),
        }
    }
}

/// What can stand in cells: single values, lists of such, and those of objects within.
fn cells(path: &str, fields: &Map<String, Value>) -> Row {
    let mut row = Row::new();
    for (name, value) in fields {
        let path = joined(path, name);
        match value {
            Value::Object(below) => row.extend(cells(&path, below)),
            Value::Array(items) if items.iter().any(Value::is_object) => {}
            value => row.push((path, cell(value))),
        }
    }
    row
}

fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    if text.is_empty() { "-".to_owned() } else { text }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn drawn(table: &Table, titled: bool) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for (column, _) in table.rows.iter().flatten() {
        if !columns.contains(&column.as_str()) {
            columns.push(column);
        }
    }
    columns.sort_by_key(|column| LEADING.iter().position(|lead| lead == column).unwrap_or(LEADING.len()));
    let find = |row: &Row, column: &str| {
        row.iter().find(|(name, _)| name == column).map_or_else(|| "-".to_owned(), |(_, cell)| cell.clone())
    };
    let heading: Vec<String> = columns.iter().map(|column| title(column)).collect();
    let rows = table.rows.iter().map(|row| columns.iter().map(|column| find(row, column)).collect());
    let lines: Vec<Vec<String>> = std::iter::once(heading).chain(rows).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|index| lines.iter().map(|line| line[index].chars().count()).max().unwrap_or_default())
        .collect();
    let mut text =
        if titled && !table.title.is_empty() { format!("{}:\n", title(&table.title)) } else { String::new() };
    for line in lines {
        let padded: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(padded.join(GAP).trim_end());
        text.push('\n');
    }
    text
}

/// `pendingChanges` as `PENDING-CHANGES`, `units.total` as `UNITS.TOTAL`.
fn title(column: &str) -> String {
    let mut out = String::new();
    for c in column.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.extend(c.to_uppercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_a_table_with_a_row_a_line() {
        let status = json!({
            "ok": true,
            "apiError": null,
            "hosts": [
                {"host": "h1", "address": "10.0.0.1", "units": {"total": 7, "inactive": ["a", "b"]}},
                {"host": "h20", "address": "10.0.0.2", "error": "two\nlines"},
            ],
            "nodes": [{"name": "h1", "ready": true}],
        });
        let expected = "\
FIELD     VALUE
apiError  -
ok        true

HOSTS:
HOST  ADDRESS   UNITS.INACTIVE  UNITS.TOTAL  ERROR
h1    10.0.0.1  a,b             7            -
h20   10.0.0.2  -               -            two lines

NODES:
NAME  READY
h1    true
";
        assert_eq!(render(&status), expected);
    }

    #[test]
    fn lists_in_rows_are_one_table_that_says_whose_they_are() {
        let plan = json!({"hosts": [
            {"host": "h1", "changes": [{"resource": "unit a", "action": "restart"}]},
            {"host": "h2", "changes": [{"resource": "file b", "action": "create"}, {"resource": "file c", "action": "remove"}]},
        ]});
        let text = render(&plan);
        let changes = text.split_once("HOSTS.CHANGES:\n").map(|(_, changes)| changes);
        let expected = "\
HOST  RESOURCE  ACTION
h1    unit a    restart
h2    file b    create
h2    file c    remove
";
        assert_eq!(changes, Some(expected), "{text}");
    }
}
