//! The bytes of a `REG_MULTI_SZ`: strings that end with a NUL each, then an empty one. Windows does not check them, so any
//! bytes may be there, and an edit moves none that it need not.

/// Where the entries lie, in units of two bytes and without their NULs, and where the list ends.
fn entries(data: &[u8]) -> (Vec<(usize, usize)>, usize) {
    let units: Vec<&[u8]> = data.chunks_exact(2).collect();
    let mut entries = Vec::new();
    let mut start = 0;
    while start < units.len() && units[start] != [0, 0] {
        let rest = &units[start..];
        let length = rest.iter().position(|unit| *unit == [0, 0]);
        let end = start + length.unwrap_or(rest.len());
        entries.push((start, end));
        start = end + 1;
    }
    (entries, start.min(units.len()))
}

fn text(data: &[u8], (start, end): (usize, usize)) -> String {
    let pairs = data[2 * start..2 * end].chunks_exact(2);
    let units: Vec<u16> = pairs.map(|p| u16::from_le_bytes([p[0], p[1]])).collect();
    String::from_utf16_lossy(&units)
}

/// The strings.
#[must_use]
pub fn strings(data: &[u8]) -> Vec<String> {
    let (entries, _) = entries(data);
    entries.iter().map(|entry| text(data, *entry)).collect()
}

/// The data of these strings, none of which is empty or has a NUL.
#[must_use]
pub fn data<'a>(strings: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut data = Vec::new();
    for string in strings {
        data = with(&data, string);
    }
    if data.is_empty() { vec![0, 0] } else { data }
}

/// True if `name` is among them; the registry's names know no case.
#[must_use]
pub fn contains(data: &[u8], name: &str) -> bool {
    strings(data).iter().any(|s| s.eq_ignore_ascii_case(name))
}

/// With `name` behind the last of them, as AddReg's append does it.
#[must_use]
pub fn with(data: &[u8], name: &str) -> Vec<u8> {
    let (entries, end) = entries(data);
    let mut edited = data[..2 * end].to_vec();
    // The last may lack its NUL.
    if entries.last().is_some_and(|(_, last)| *last == end) {
        edited.extend([0, 0]);
    }
    edited.extend(name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    match &data[2 * end..] {
        rest @ [_, _, ..] => edited.extend(rest),
        rest => edited.extend([0, 0].iter().chain(rest)),
    }
    edited
}

/// Without `name`.
#[must_use]
pub fn without(data: &[u8], name: &str) -> Vec<u8> {
    let (entries, _) = entries(data);
    let mut edited = data.to_vec();
    for entry in entries.into_iter().rev() {
        if text(data, entry).eq_ignore_ascii_case(name) {
            let end = (2 * entry.1 + 2).min(edited.len());
            edited.drain(2 * entry.0..end);
        }
    }
    edited
}
