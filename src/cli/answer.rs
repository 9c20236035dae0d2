//! An answer with its reasons and its next step, as lines that fit the terminal.

/// What is told of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// A lowercase fragment without a full stop.
    pub message: String,
    /// Causes found by looking.
    pub notes: Vec<String>,
    /// One edit or command.
    pub help: Option<String>,
}

impl Answer {
    /// Lines in the look of errors, all but the first behind `indent` blanks; the first goes on behind `said` characters
    /// that stand already.
    pub(super) fn text(&self, said: usize, indent: usize, width: Option<usize>) -> String {
        let mut text = wrapped(&self.message, said, indent, width);
        let notes = self.notes.iter().map(|note| ("note", note));
        for (kind, words) in notes.chain(self.help.iter().map(|help| ("help", help))) {
            let start = format!("{}= {kind}: ", " ".repeat(indent));
            text += &start;
            text += &wrapped(words, start.len(), start.len(), width);
        }
        text
    }
}

/// `words` on lines that end before `width`, if there is one; the first begins behind `said` characters. What is longer
/// than a line, such as a path, stays whole.
fn wrapped(words: &str, said: usize, indent: usize, width: Option<usize>) -> String {
    let width = width.unwrap_or(usize::MAX);
    let (mut text, mut at) = (String::new(), said);
    for piece in pieces(words, width.saturating_sub(indent)) {
        let length = piece.chars().count();
        if text.is_empty() {
            at += length;
        } else if at + 1 + length > width {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', indent));
            at = indent + length;
        } else {
            text.push(' ');
            at += 1 + length;
        }
        text += piece;
    }
    text + "\n"
}

/// The words, but a command between backticks is one if it fits into `room`: it is there to be copied.
fn pieces(words: &str, room: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = words;
    while !rest.is_empty() {
        let command = rest.strip_prefix('`').and_then(|inner| inner.find('`')).map(|end| end + 2);
        let from = command.filter(|end| rest[..*end].chars().count() <= room).unwrap_or(0);
        let end = rest[from..].find(' ').map_or(rest.len(), |end| from + end);
        pieces.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(' ');
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer {
            message: "5173 is held by `node server.js` (pid 4812)".into(),
            notes: vec!["it listens on 127.0.0.1:5173 and [::1]:5173".into()],
            help: Some("end it with `kill 4812`".into()),
        }
    }

    #[test]
    fn reasons_and_the_next_step_stand_below_the_answer() {
        let expected = "\
5173 is held by `node server.js` (pid 4812)
  = note: it listens on 127.0.0.1:5173 and [::1]:5173
  = help: end it with `kill 4812`
";
        assert_eq!(answer().text(0, 2, None), expected);
    }

    #[test]
    fn what_does_not_fit_goes_on_below_itself() {
        let expected = "\
5173 is held by
  `node server.js` (pid
  4812)
  = note: it listens on
          127.0.0.1:5173
          and [::1]:5173
  = help: end it with
          `kill 4812`
";
        assert_eq!(answer().text(0, 2, Some(24)), expected);
        assert!(answer().text(9, 9, Some(24)).starts_with("5173 is held by\n         `node"));
    }

    #[test]
    fn a_command_is_broken_only_where_no_line_is_long_enough() {
        let words = "`sudo sysctl net=1`, then `ls` again";
        assert_eq!(pieces(words, 20), ["`sudo sysctl net=1`,", "then", "`ls`", "again"]);
        assert_eq!(pieces(words, 10), ["`sudo", "sysctl", "net=1`,", "then", "`ls`", "again"]);
        assert_eq!(pieces("an ` alone", 20), ["an", "`", "alone"]);
    }

    #[test]
    fn a_word_that_is_longer_than_a_line_stays_whole() {
        let long = Answer { message: "see /a/very/long/path now".into(), notes: Vec::new(), help: None };
        assert_eq!(long.text(0, 2, Some(10)), "see\n  /a/very/long/path\n  now\n");
    }
}
