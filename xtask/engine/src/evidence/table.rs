//! Tables as kubectl and helm print them: found in an output, taken apart, and laid out anew.

/// A table as kubectl and helm print it: a heading whose columns every row keeps to.
pub(super) struct Table<'a> {
    /// Where the columns start, in characters. Empty for helm, which separates by tabs.
    starts: Vec<usize>,
    /// Its lines, the heading first.
    pub rows: Vec<&'a str>,
}

impl<'a> Table<'a> {
    /// The table whose heading is the first of these lines: capitals, or underlined with dashes.
    pub(super) fn starting_at(lines: &[&'a str]) -> Option<Self> {
        let heading = *lines.first()?;
        if heading.contains('\t') && capitals(heading) {
            let rows = lines.iter().copied().take_while(|line| line.contains('\t')).collect();
            return Some(Self { starts: Vec::new(), rows });
        }
        let underlined = lines.get(1).is_some_and(|next| {
            next.contains("--") && next.chars().all(|character| character == '-' || character == ' ')
        });
        let starts = column_starts(heading);
        if starts.len() < 2 || !(capitals(heading) || underlined) {
            return None;
        }
        let fits = |line: &&&str| {
            let line: Vec<char> = line.chars().collect();
            let blank = |at: usize| line.get(at).is_none_or(|character| *character == ' ');
            !line.is_empty() && starts[1..].iter().all(|start| blank(start - 1))
        };
        let rows = lines.iter().take_while(fits).copied().collect();
        Some(Self { starts, rows })
    }

    /// Its cells, row by row.
    pub(super) fn cells(&self) -> Vec<Vec<String>> {
        self.rows.iter().map(|row| self.cells_of(row)).collect()
    }

    /// Other cells in its columns, each as wide as it must be.
    pub(super) fn laid_out(&self, rows: &[Vec<String>]) -> String {
        // The underline of `kubectl describe` is as long as its heading, so widths come from the rest.
        let indent: String = self.rows[0].chars().take_while(|character| *character == ' ').collect();
        let widths: Vec<usize> = (0..rows[0].len())
            .map(|column| {
                rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
            })
            .map(Option::unwrap_or_default)
            .collect();
        let mut out = String::new();
        for row in rows {
            let mut line = indent.clone();
            for (cell, width) in row.iter().zip(&widths) {
                line += &format!("{cell:width$}   ");
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }

    fn cells_of(&self, row: &str) -> Vec<String> {
        if self.starts.is_empty() {
            return row.split('\t').map(|cell| cell.trim().to_owned()).collect();
        }
        let characters: Vec<char> = row.chars().collect();
        let ends = self.starts[1..].iter().copied().chain([usize::MAX]);
        let cell = |(start, end): (&usize, usize)| {
            let end = end.min(characters.len());
            let text: String = characters.get(*start..end).unwrap_or_default().iter().collect();
            text.trim().to_owned()
        };
        self.starts.iter().zip(ends).map(cell).collect()
    }
}

fn capitals(heading: &str) -> bool {
    heading.chars().any(char::is_alphabetic) && !heading.chars().any(char::is_lowercase)
}

/// Where the cells of a heading start; cells are two spaces or more apart (`ACCESS MODES` is one).
fn column_starts(heading: &str) -> Vec<usize> {
    let characters: Vec<char> = heading.chars().collect();
    let blank = |at: usize| characters.get(at).is_none_or(|character| *character == ' ');
    (0..characters.len())
        .filter(|&at| !blank(at) && (at == 0 || (blank(at - 1) && (at == 1 || blank(at - 2)))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Option<Vec<Vec<String>>> {
        let lines: Vec<_> = text.lines().collect();
        Table::starting_at(&lines).map(|table| table.cells())
    }

    #[test]
    fn a_heading_of_capitals_or_underlined_begins_a_table() {
        assert_eq!(
            cells("NAME   ACCESS MODES   AGE\na                     1s\n\nb   c   d").unwrap(),
            [["NAME", "ACCESS MODES", "AGE"], ["a", "", "1s"]]
        );
        assert_eq!(cells("  Type    Age\n  ----    ----\n  Normal  1s").unwrap().len(), 3);
        assert_eq!(cells("NAME\tAGE\na\t1s").unwrap(), [["NAME", "AGE"], ["a", "1s"]]);
    }

    #[test]
    fn other_lines_are_no_table() {
        for text in ["Name:   counter-0", "NAME", "", "7", "two  words"] {
            assert_eq!(cells(text), None, "{text}");
        }
    }

    #[test]
    fn a_row_that_crosses_a_column_ends_the_table() {
        assert_eq!(cells("NAME   AGE\na      1s\na longer line of text").unwrap().len(), 2);
    }
}
