//! Sets cbindgen's output as a page to be read: paragraphs filled, constants and fields as tables with their comments beside them.

/// Width of the page.
const WIDTH: usize = 120;
/// Least width of the comment beside a row, however wide the row is.
const MIN_COMMENT: usize = 60;

/// One declaration with its documentation.
struct Item {
    indent: usize,
    /// Paragraphs, each one line.
    doc: Vec<String>,
    code: String,
}

impl Item {
    /// A constant or a field: a row of a table.
    fn is_row(&self) -> bool {
        self.code.starts_with("#define") || (self.indent > 0 && self.code.ends_with(';'))
    }

    /// What groups constants: `INF_EV` of `#define INF_EV_DONE 5u`; nothing for fields.
    fn family(&self) -> Option<&str> {
        let name = self.code.strip_prefix("#define ")?;
        name.match_indices('_').nth(1).map(|(at, _)| &name[..at])
    }
}

/// The text of one section, set.
pub fn tidy(generated: &str) -> String {
    let items = parse(generated);
    let mut out = String::new();
    for group in items.chunk_by(|a, b| a.is_row() && b.is_row() && a.indent == b.indent) {
        if group[0].is_row() { set_table(group, &mut out) } else { set_declaration(&group[0], &mut out) }
    }
    out.replace("{\n\n", "{\n").replace("\n\n}", "\n}").trim_end().to_owned() + "\n"
}

/// Splits the text into declarations: a line each, with the comment above it. Blank lines are dropped, they are set anew.
fn parse(generated: &str) -> Vec<Item> {
    let (mut items, mut doc) = (Vec::new(), Vec::new());
    for line in generated.lines().filter(|line| !line.is_empty()) {
        let indent = line.len() - line.trim_start().len();
        match line.trim_start() {
            "/**" | "*/" => {}
            comment if comment.starts_with('*') => doc.push(comment[1..].trim()),
            code => items.push(Item { indent, doc: paragraphs(&std::mem::take(&mut doc)), code: plain_types(code) }),
        }
    }
    items
}

/// `inf_model *` for `struct inf_model *`: every struct has a typedef of its name. `intptr_t` for what cbindgen calls `ptrdiff_t`: no field of ours is
/// a difference of pointers.
fn plain_types(code: &str) -> String {
    let code = &code.replace("ptrdiff_t", "intptr_t");
    if code.starts_with("typedef struct") { code.to_owned() } else { code.replace("struct inf_", "inf_") }
}

/// Joins lines to paragraphs: a blank line or a list item begins a new one; an empty paragraph stands for the blank line.
fn paragraphs(lines: &[&str]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for line in lines {
        match out.last_mut() {
            Some(last) if !line.is_empty() && !last.is_empty() && !line.starts_with("- ") => *last += &format!(" {line}"),
            _ => out.push((*line).to_owned()),
        }
    }
    out
}

/// Fills `text` into lines of at most `width`; later lines are indented by `hang`.
fn fill(text: &str, width: usize, hang: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is always a line");
        if last.trim().is_empty() {
            *last += word;
        } else if last.len() + 1 + word.len() <= width {
            *last += &format!(" {word}");
        } else {
            lines.push(" ".repeat(hang) + word);
        }
    }
    lines
}

fn set_doc(item: &Item, out: &mut String) {
    let pad = " ".repeat(item.indent);
    match &item.doc[..] {
        [] => {}
        [line] if item.indent + line.len() + 7 <= WIDTH => *out += &format!("{pad}/** {line} */\n"),
        paragraphs => {
            *out += &format!("{pad}/**\n");
            for paragraph in paragraphs {
                let hang = if paragraph.starts_with("- ") { 2 } else { 0 };
                for line in fill(paragraph, WIDTH - 3 - item.indent, hang) {
                    *out += format!("{pad} * {line}").trim_end();
                    out.push('\n');
                }
            }
            *out += &format!("{pad} */\n");
        }
    }
}

fn set_declaration(item: &Item, out: &mut String) {
    if !item.code.starts_with('}') {
        out.push('\n');
    }
    set_doc(item, out);
    // Only the space behind a comma is a place to break a prototype.
    let unbreakable = item.code.replace(' ', "\0").replace(",\0", ", ");
    *out += &fill(&unbreakable, WIDTH, 4).join("\n").replace('\0', " ");
    out.push('\n');
}

fn set_table(rows: &[Item], out: &mut String) {
    let width = rows.iter().map(|row| row.code.len()).max().unwrap_or(0);
    for (i, row) in rows.iter().enumerate() {
        if i == 0 || rows[i - 1].family() != row.family() {
            out.push('\n');
        }
        let code = format!("{}{:width$}  ", " ".repeat(row.indent), row.code);
        let beside = WIDTH.saturating_sub(code.len() + 8).max(MIN_COMMENT);
        let lines = fill(&row.doc.join(" "), beside, 0).join(&format!("\n{}", " ".repeat(code.len() + 5)));
        *out += &if row.doc.is_empty() { format!("{}\n", code.trim_end()) } else { format!("{code}/**< {lines} */\n") };
    }
}

#[test]
fn rows_become_tables_and_prose_is_filled() {
    let generated = "/**\n * One.\n */\n#define INF_A_X 1u\n\n/**\n * Two.\n */\n#define INF_B_LONGER 2u\n\n/**\n * A\n * b.\n *\n * - c\n *   d\n */\n\
                     typedef struct s {\n  /**\n   * F.\n   */\n  int f;\n} s;\n";
    let expected = "\n#define INF_A_X 1u       /**< One. */\n\n#define INF_B_LONGER 2u  /**< Two. */\n\n/**\n * A b.\n *\n * - c d\n */\n\
                    typedef struct s {\n  int f;  /**< F. */\n} s;\n";
    assert_eq!(tidy(generated), expected);
}
