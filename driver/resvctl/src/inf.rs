//! Whose driver package an INF is of: what its `[Version]` says.

/// Provider, setup class and catalog. Together they tell a package from another that merely calls its INF the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub provider: String,
    pub class: String,
    pub catalog: String,
}

impl Identity {
    /// Reads an INF: UTF-16 LE with its mark, or bytes whose ASCII counts. None if one of the three is not there.
    pub fn of(inf: &[u8]) -> Option<Self> {
        let text = match inf {
            [0xFF, 0xFE, units @ ..] => {
                let units = units.chunks_exact(2);
                let units: Vec<u16> = units.map(|u| u16::from_le_bytes([u[0], u[1]])).collect();
                String::from_utf16_lossy(&units)
            }
            bytes => String::from_utf8_lossy(bytes).into_owned(),
        };
        let version = |key: &str| Some(resolved(&text, entry(&text, "Version", key)?));
        let (provider, class) = (version("Provider")?, version("ClassGuid")?);
        let catalog = catalog(&text)?;
        let identity = Self {
            provider,
            class: class.to_lowercase(),
            catalog: catalog.to_lowercase(),
        };
        let fields = [&identity.provider, &identity.class, &identity.catalog];
        (!fields.iter().any(|field| field.is_empty())).then_some(identity)
    }

    /// As the record has it.
    pub fn strings(&self) -> [&str; 3] {
        [&self.provider, &self.class, &self.catalog]
    }
}

/// `CatalogFile`, or the one for an architecture (`CatalogFile.NTamd64`).
fn catalog(text: &str) -> Option<String> {
    let plain = entry(text, "Version", "CatalogFile");
    let value = plain.or_else(|| {
        let named = |key: &str| entry(text, "Version", &format!("CatalogFile.{key}"));
        ["NT", "NTamd64", "NTarm64"].into_iter().find_map(named)
    });
    Some(resolved(text, value?))
}

/// The value of a key in a section.
fn entry(text: &str, section: &str, key: &str) -> Option<String> {
    let mut inside = false;
    for line in text.lines() {
        let line = without_comment(line).trim();
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            inside = name.trim().eq_ignore_ascii_case(section);
        } else if let (true, Some((name, value))) = (inside, line.split_once('='))
            && unquoted(name).eq_ignore_ascii_case(key)
        {
            return Some(unquoted(value).into());
        }
    }
    None
}

/// A `%token%` is a string of `[Strings]`.
fn resolved(text: &str, value: String) -> String {
    let token = value.strip_prefix('%').and_then(|v| v.strip_suffix('%'));
    let string = token.and_then(|token| entry(text, "Strings", token));
    string.unwrap_or(value)
}

/// A semicolon begins a comment, but not between quotes.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let end = line.find(|c| {
        quoted ^= c == '"';
        c == ';' && !quoted
    });
    &line[..end.unwrap_or(line.len())]
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    inner.unwrap_or(text)
}
