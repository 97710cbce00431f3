//! Text in aligned columns.

use std::fmt::Display;

use crate::color::{self, Style};

/// A table with a line for each item, filled column by column. The last column is not padded.
pub(super) struct Table<'a, T> {
    items: &'a [T],
    /// The heading first, then a line for each item.
    lines: Vec<String>,
    /// Widths of the columns of earlier pages.
    widths: Option<&'a mut Vec<usize>>,
    /// The number of the next column.
    column: usize,
    /// An earlier page has the heading.
    further: bool,
}

impl<'a, T> Table<'a, T> {
    pub(super) fn of(items: &'a [T]) -> Self {
        Self { items, lines: vec![String::new(); items.len() + 1], widths: None, column: 0, further: false }
    }

    /// The next page of a table, whose columns are at least as wide as those of the pages before; only the first page has a heading.
    pub(super) fn continued(items: &'a [T], widths: &'a mut Vec<usize>) -> Self {
        let further = !widths.is_empty();
        Self { widths: Some(widths), further, ..Self::of(items) }
    }

    /// Adds a column of states, in colours.
    pub(super) fn state<V: Display>(self, head: &str, state: impl Fn(&T) -> V) -> Self {
        let cells = self.items.iter().map(|item| state(item).to_string()).collect();
        self.painted(head, cells, color::state)
    }

    /// Adds a column of values.
    pub(super) fn value<V: Display>(self, head: &str, value: impl Fn(&T) -> V) -> Self {
        let cells = self.items.iter().map(|item| value(item).to_string()).collect();
        self.column(head, cells)
    }

    /// Adds a column of texts.
    pub(super) fn text(self, head: &str, text: impl Fn(&T) -> &str) -> Self {
        let cells = self.items.iter().map(|item| text(item).to_owned()).collect();
        self.column(head, cells)
    }

    fn column(self, head: &str, cells: Vec<String>) -> Self {
        self.painted(head, cells, str::to_owned)
    }

    /// A column is as wide as its widest cell; numbers are aligned to the right.
    fn painted(mut self, head: &str, cells: Vec<String>, paint: fn(&str) -> String) -> Self {
        let numeric = cells.iter().all(|cell| cell.parse::<f64>().is_ok());
        let mut width = cells.iter().map(|cell| cell.chars().count()).fold(head.chars().count(), usize::max);
        if let Some(widths) = &mut self.widths {
            match widths.get_mut(self.column) {
                Some(before) => {
                    width = width.max(*before);
                    *before = width;
                }
                None => widths.push(width),
            }
        }
        self.column += 1;
        for (line, cell) in self.lines.iter_mut().zip(std::iter::once(head).chain(cells.iter().map(|c| &**c)))
        {
            let space = " ".repeat(width.saturating_sub(cell.chars().count()));
            let cell = paint(cell);
            line.push_str(&if numeric { format!("{space}{cell}  ") } else { format!("{cell}{space}  ") });
        }
        self
    }

    pub(super) fn finish(mut self) -> String {
        if let Some(heading) = self.lines.first_mut() {
            *heading = color::paint(Style::Heading, heading.trim_end());
        }
        let lines = self.lines.iter().skip(usize::from(self.further));
        lines.flat_map(|line| [line.trim_end(), "\n"]).collect()
    }
}

pub(super) fn or_dash<V: Display>(value: Option<V>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

pub(super) fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
