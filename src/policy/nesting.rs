//! How deep rules may go. A parser, a validator and an evaluator follow an expression down, one frame of
//! the stack a level, and a stack that is used up ends the process: so the depth of what somebody sends
//! is bounded before anything follows it.

/// Deepest brackets, and most `if` in one statement.
const DEPTH_MAX: usize = 32;

/// Most signs of operators and accesses in one statement: a chain of them is as deep as it is long.
const SIGNS_MAX: usize = 1000;

/// Whether each statement of a Cedar text stays within the bounds. In a schema `<` is a bracket too.
pub(super) fn is_bounded(text: &str, is_schema: bool) -> bool {
    let mut statement = Statement::default();
    let mut bytes = text.bytes().peekable();
    let mut word = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            word.push(byte);
            continue;
        }
        statement.ifs += usize::from(word == b"if");
        word.clear();
        match byte {
            b'"' => skip_text(&mut bytes),
            b'/' if bytes.peek() == Some(&b'/') => {
                while bytes.next_if(|it| *it != b'\n').is_some() {}
            }
            b';' => statement = Statement::default(),
            b'(' | b'[' | b'{' => statement.open(),
            b'<' if is_schema => statement.open(),
            b')' | b']' | b'}' => statement.close(),
            b'>' if is_schema => statement.close(),
            b'&' | b'|' | b'!' | b'+' | b'-' | b'*' | b'.' | b'=' | b'<' | b'>' | b'%' | b'/' => {
                statement.signs += 1;
            }
            _ => {}
        }
        // A schema is one long list of names; a rule is an expression.
        let is_long = !is_schema && statement.signs > SIGNS_MAX;
        if statement.depth > DEPTH_MAX || statement.ifs > DEPTH_MAX || is_long {
            return false;
        }
    }
    true
}

fn skip_text(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

#[derive(Default)]
struct Statement {
    depth: usize,
    ifs: usize,
    signs: usize,
}

impl Statement {
    const fn open(&mut self) {
        self.depth += 1;
        self.signs += 1;
    }

    const fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_where_it_is_and_nowhere_else() {
        let deep = |open: &str, close: &str, levels: usize| {
            format!("{}a{};", open.repeat(levels), close.repeat(levels))
        };
        for (open, close) in [("(", ")"), ("[", "]"), ("{a:", "}"), ("if ", " then b else c")] {
            assert!(is_bounded(&deep(open, close, DEPTH_MAX), false), "{open}");
            assert!(!is_bounded(&deep(open, close, DEPTH_MAX + 1), false), "{open}");
        }
        for sign in ["!", ".a", " * 1", " < 1"] {
            assert!(is_bounded(&deep("", sign, SIGNS_MAX), false), "{sign}");
            assert!(!is_bounded(&deep("", sign, SIGNS_MAX + 1), false), "{sign}");
        }
        assert!(!is_bounded(&deep("Set<", ">", DEPTH_MAX + 1), true));
        // A new statement begins anew, but not behind a sign in a text or a comment.
        let half = "(".repeat(DEPTH_MAX);
        assert!(is_bounded(&format!("{half};{half}"), false));
        for between in ["\";\"", "\"\\\";\"", "// ;\n", "\"//\" "] {
            assert!(!is_bounded(&format!("{half}{between}{half}"), false), "{between}");
        }
        for skipped in [format!("\"{half}{half}\""), format!("// {half}{half}\n")] {
            assert!(is_bounded(&skipped, false));
        }
    }
}
