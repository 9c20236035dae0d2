//! Rows in columns that fit the terminal: what tells least is shortened first, and nothing that is not needed.

use super::terminal::WIDEST_COLUMN;

/// Between two columns.
const GAP: usize = 2;

/// One column of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// What stands above it.
    pub heading: &'static str,
    /// What may be done to its cells.
    pub cut: Cut,
}

/// How a cell is shortened where a row does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Not at all: half of a port is none.
    Never,
    /// In the middle, as the end of a path tells most; down to so many characters.
    Middle(usize),
    /// At its end; down to so many characters, and the column goes where not even they fit.
    End(usize),
}

/// The rows as lines, `width` characters wide at most if there is a width and if that can be. Columns that are empty in
/// every row are left out.
pub(super) fn render(columns: &[Column], rows: &[Vec<String>], width: Option<usize>, unicode: bool) -> String {
    let natural = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        let widest = cells.max().unwrap_or(0).min(WIDEST_COLUMN);
        if widest == 0 { 0 } else { widest.max(columns[column].heading.len()) }
    };
    let mut widths: Vec<usize> = (0..columns.len()).map(natural).collect();
    if let Some(width) = width {
        fit(columns, &mut widths, width);
    }
    let heading: Vec<String> = columns.iter().map(|column| column.heading.to_owned()).collect();
    let lines = std::iter::once(&heading).chain(rows).map(|row| line(columns, row, &widths, unicode));
    lines.collect::<Vec<_>>().concat()
}

/// Takes from the last column first, until the rows are `width` wide or nothing is left to take.
fn fit(columns: &[Column], widths: &mut [usize], width: usize) {
    for (at, column) in columns.iter().enumerate().rev() {
        let over = total(widths).saturating_sub(width);
        let narrowed = widths[at].saturating_sub(over);
        widths[at] = match column.cut {
            _ if over == 0 => return,
            Cut::Never => widths[at],
            Cut::Middle(least) => narrowed.max(least).min(widths[at]),
            Cut::End(least) if narrowed < least => 0,
            Cut::End(_) => narrowed,
        };
    }
}

/// The columns that are there, and the gaps between them.
fn total(widths: &[usize]) -> usize {
    let shown = widths.iter().filter(|width| **width > 0);
    shown.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
}

fn line(columns: &[Column], row: &[String], widths: &[usize], unicode: bool) -> String {
    let shown = columns.iter().zip(row).zip(widths).filter(|(_, width)| **width > 0);
    let cells = shown.map(|((column, cell), width)| format!("{:<width$}", cut(cell, column.cut, *width, unicode)));
    let gap = " ".repeat(GAP);
    format!("{}\n", cells.collect::<Vec<_>>().join(&gap).trim_end())
}

/// The cell, no longer than `width` unless it is never cut, or longer than any column grows.
fn cut(cell: &str, cut: Cut, width: usize, unicode: bool) -> String {
    let length = cell.chars().count();
    if length <= width || width >= WIDEST_COLUMN {
        return cell.to_owned();
    }
    let dots = if unicode { "…" } else { "..." };
    let room = width.saturating_sub(dots.chars().count());
    // The last folder and the one above it are mostly what tells one path from the next.
    let tail = match cut {
        Cut::Never => return cell.to_owned(),
        Cut::Middle(_) => room * 2 / 3,
        Cut::End(_) => 0,
    };
    let head: String = cell.chars().take(room - tail).collect();
    let tail: String = cell.chars().skip(length - tail).collect();
    format!("{head}{dots}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column { heading: "port", cut: Cut::Never },
        Column { heading: "folder", cut: Cut::Middle(8) },
        Column { heading: "route", cut: Cut::Never },
        Column { heading: "command", cut: Cut::End(10) },
    ];

    fn rows(rows: &[[&str; 4]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect()
    }

    fn shown(width: impl Into<Option<usize>>) -> String {
        let rows =
            rows(&[["80", "~/projects/shop/web", "web", "node server.js --watch"], ["62893", "~", "", "portolan"]]);
        render(&COLUMNS, &rows, width.into(), true)
    }

    #[test]
    fn without_a_width_nothing_is_cut() {
        let expected = "\
port   folder               route  command
80     ~/projects/shop/web  web    node server.js --watch
62893  ~                           portolan
";
        assert_eq!(shown(None), expected);
    }

    #[test]
    fn the_last_column_is_shortened_first_and_then_goes() {
        assert!(shown(50).contains("web    node server.js…\n"), "{}", shown(50));
        assert!(shown(44).starts_with("port   folder               route\n"), "{}", shown(44));
    }

    #[test]
    fn a_path_is_shortened_in_the_middle_and_no_further_than_it_tells_anything() {
        assert!(shown(25).contains("~/pr…op/web  web\n"), "{}", shown(25));
        assert!(shown(5).contains("80     ~/p…/web  web\n"), "{}", shown(5));
    }

    #[test]
    fn every_line_fits() {
        for width in 24..80 {
            assert!(shown(width).lines().all(|line| line.chars().count() <= width), "{width}:\n{}", shown(width));
        }
    }

    #[test]
    fn a_column_without_any_cell_is_left_out() {
        let rows = rows(&[["80", "~", "", "portolan"]]);
        assert_eq!(render(&COLUMNS, &rows, None, true), "port  folder  command\n80    ~       portolan\n");
    }

    #[test]
    fn three_dots_stand_where_one_sign_cannot() {
        assert_eq!(cut("node server.js", Cut::End(4), 10, false), "node se...");
        assert_eq!(cut("node server.js", Cut::End(4), 10, true), "node serv…");
    }
}
