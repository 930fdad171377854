//! An INF file as `SetupAPI` reads it ("General Syntax Rules for INF Files" in Microsoft's documentation).

/// One line of a section.
#[derive(Clone, Debug)]
pub struct Entry {
    /// From 1.
    pub line: usize,
    /// What stands before the `=`; empty where there is none.
    pub key: String,
    /// What stands between the commas, without quotes; strings are not yet put in.
    pub values: Vec<String>,
}

impl Entry {
    /// A value; empty if it is not there.
    #[must_use]
    pub fn value(&self, index: usize) -> &str {
        self.values.get(index).map_or("", String::as_str)
    }

    /// True if its key is `name`; INF files know no case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.key.eq_ignore_ascii_case(name)
    }
}

/// A section as it stands in the file.
#[derive(Clone, Debug)]
pub struct Section {
    /// From 1.
    pub line: usize,
    /// Without the brackets.
    pub name: String,
    /// In order.
    pub entries: Vec<Entry>,
}

/// A section that a `[Models]` entry leads to.
#[derive(Clone, Debug)]
pub struct Install {
    /// Where the entry is.
    pub line: usize,
    /// The name that the entry has.
    pub name: String,
    /// The section's name with its decoration, if there is such a section.
    pub section: Option<String>,
    /// The hardware and compatible IDs that lead there.
    pub ids: Vec<String>,
}

/// A file.
#[derive(Clone, Debug)]
pub struct Inf {
    /// As it was read.
    pub bytes: Vec<u8>,
    /// In order; sections of one name are apart.
    pub sections: Vec<Section>,
}

impl Inf {
    /// Reads ASCII or UTF-16 LE with a byte order mark; a byte that is neither is read as U+FFFD.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let text = match bytes.strip_prefix(b"\xFF\xFE") {
            Some(wide) => {
                let units = wide
                    .chunks_exact(2)
                    .map(|u| u16::from_le_bytes([u[0], u[1]]));
                char::decode_utf16(units)
                    .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                    .collect()
            }
            None => String::from_utf8_lossy(bytes).into_owned(),
        };
        let mut sections: Vec<Section> = Vec::new();
        let mut lines = text.lines().enumerate();
        while let Some((at, first)) = lines.next() {
            let mut code = without_comment(first).to_owned();
            while code.ends_with('\\') {
                code.pop();
                code += lines.next().map_or("", |(_, next)| without_comment(next));
            }
            let code = code.trim();
            let line = at + 1;
            if let Some(name) = code.strip_prefix('[') {
                let name = name.strip_suffix(']').unwrap_or(name).to_owned();
                sections.push(Section {
                    line,
                    name,
                    entries: Vec::new(),
                });
            } else if let Some(section) = sections.last_mut().filter(|_| !code.is_empty()) {
                section.entries.push(entry(line, code));
            }
        }
        Self {
            bytes: bytes.to_owned(),
            sections,
        }
    }

    /// True if there is such a section.
    #[must_use]
    pub fn has(&self, section: &str) -> bool {
        self.sections
            .iter()
            .any(|s| s.name.eq_ignore_ascii_case(section))
    }

    /// The entries of all sections with this name.
    pub fn entries<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'a Entry> {
        let named = move |s: &&Section| s.name.eq_ignore_ascii_case(section);
        self.sections.iter().filter(named).flat_map(|s| &s.entries)
    }

    /// The entries of a section with this key.
    pub fn all<'a>(&'a self, section: &'a str, key: &'a str) -> impl Iterator<Item = &'a Entry> {
        self.entries(section).filter(move |e| e.is(key))
    }

    /// The first value of the first entry with this key, strings put in; empty if there is none.
    #[must_use]
    pub fn value(&self, section: &str, key: &str) -> String {
        self.all(section, key)
            .next()
            .map_or(String::new(), |e| self.expand(e.value(0)))
    }

    /// `text` with its `%strings%` put in. Directory IDs and unknown strings stay.
    #[must_use]
    pub fn expand(&self, text: &str) -> String {
        let mut expanded = String::new();
        for (at, part) in text.split('%').enumerate() {
            // Odd parts stand between percent signs; two signs side by side are one.
            match self.entries("Strings").find(|e| at % 2 == 1 && e.is(part)) {
                Some(string) => expanded += string.value(0),
                None if at % 2 == 1 && part.is_empty() => expanded.push('%'),
                None if at % 2 == 1 => expanded.extend(["%", part, "%"]),
                None => expanded += part,
            }
        }
        expanded
    }

    /// The `%names%` in `text` that are no directory IDs.
    pub fn tokens(text: &str) -> impl Iterator<Item = &str> {
        let is_name = |part: &&str| !part.is_empty() && !part.bytes().all(|b| b.is_ascii_digit());
        text.split('%').skip(1).step_by(2).filter(is_name)
    }

    /// The models sections that `[Manufacturer]` names: entry, name, decoration.
    pub fn models(&self) -> impl Iterator<Item = (&Entry, String, &str)> {
        self.entries("Manufacturer").flat_map(|entry| {
            let decorations = entry.values.iter().skip(1);
            decorations.map(move |d| (entry, format!("{}.{d}", entry.value(0)), d.as_str()))
        })
    }

    /// Where the models lead: the section with the decoration of the architecture, NT's, or none.
    #[must_use]
    pub fn installs(&self) -> Vec<Install> {
        let mut installs = Vec::new();
        for (_, models, decoration) in self.models() {
            let platform = decoration.split('.').next().unwrap_or_default().to_owned();
            for entry in self.entries(&models) {
                let name = entry.value(0).to_owned();
                let decorated = [
                    format!("{name}.{platform}"),
                    format!("{name}.NT"),
                    name.clone(),
                ];
                installs.push(Install {
                    line: entry.line,
                    section: decorated.into_iter().find(|section| self.has(section)),
                    name,
                    ids: entry.values.iter().skip(1).cloned().collect(),
                });
            }
        }
        installs
    }

    /// The entries with this key in the install sections' part, such as `AddService` in `.Services`.
    #[must_use]
    pub fn directives(&self, part: &str, key: &str) -> Vec<&Entry> {
        let parts = self
            .installs()
            .into_iter()
            .filter_map(|i| Some(i.section? + part));
        let mut found: Vec<&Entry> = Vec::new();
        for part in parts {
            let here = self
                .sections
                .iter()
                .filter(|s| s.name.eq_ignore_ascii_case(&part));
            found.extend(here.flat_map(|s| &s.entries).filter(|e| e.is(key)));
        }
        found.sort_by_key(|e| e.line);
        found.dedup_by_key(|e| e.line);
        found
    }
}

/// The pieces of `text` between those of `separators` that stand outside of quotes.
fn split(text: &str, separator: char, at_most: usize) -> Vec<&str> {
    let mut quoted = false;
    let mut pieces = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices() {
        quoted ^= c == '"';
        if c == separator && !quoted && pieces.len() + 1 < at_most {
            pieces.push(&text[start..at]);
            start = at + c.len_utf8();
        }
    }
    pieces.push(&text[start..]);
    pieces
}

fn without_comment(line: &str) -> &str {
    split(line, ';', 2)[0].trim_end()
}

fn entry(line: usize, code: &str) -> Entry {
    let (key, values) = match split(code, '=', 2)[..] {
        [key, values] => (unquoted(key), values),
        _ => (String::new(), code),
    };
    let values = split(values, ',', usize::MAX)
        .into_iter()
        .map(unquoted)
        .collect();
    Entry { line, key, values }
}

fn unquoted(text: &str) -> String {
    let text = text.trim();
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    inner.unwrap_or(text).replace("\"\"", "\"")
}
