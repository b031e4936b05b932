//! Tables of a page.

/// Returns a table; without rows nothing.
pub(crate) fn table(title: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule = format!("|{}\n", "---|".repeat(head.len()));
    let rows: String = rows.iter().map(|row| line(row)).collect();
    format!("### {title}\n\n{}{rule}{rows}\n", line(&head))
}

/// Returns a text as code in a cell.
pub(crate) fn code(text: &str) -> String {
    if text.is_empty() {
        return "an empty text".to_owned();
    }
    let shown: String = text.chars().flat_map(visible).collect();
    match shown.contains('`') {
        true => format!("`` {shown} ``"),
        false => format!("`{shown}`"),
    }
}

/// Returns a text as code, cut where it says no more.
pub(crate) fn brief(text: &str) -> String {
    const LETTERS_MAX: usize = 40;
    if text.chars().count() <= LETTERS_MAX {
        return code(text);
    }
    code(&format!("{}…", text.chars().take(LETTERS_MAX).collect::<String>()))
}

/// A bar would end the cell and a line break the row.
fn visible(letter: char) -> Vec<char> {
    match letter {
        '|' => vec!['\\', '|'],
        '\n' => vec!['\\', 'n'],
        other => vec![other],
    }
}
