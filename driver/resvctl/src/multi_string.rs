//! The bytes of a `REG_MULTI_SZ`: strings that end with a NUL each, then an empty one. Windows does not check them, so any
//! bytes may be there, and an edit moves none that it need not.
//!
//! An empty string in the middle ends the list for some readers and not for others: the registry's own
//! `RtlQueryRegistryValues` goes by the length. So what is looked for is looked for to the end, and what is added is
//! added where every reader sees it.

/// Where the strings lie, in units of two bytes and without their NULs; the empty ones, too.
fn all(data: &[u8]) -> Vec<(usize, usize)> {
    let units: Vec<&[u8]> = data.chunks_exact(2).collect();
    let mut strings = Vec::new();
    let mut start = 0;
    while start < units.len() {
        let length = units[start..].iter().position(|unit| *unit == [0, 0]);
        let end = length.map_or(units.len(), |length| start + length);
        strings.push((start, end));
        start = end + 1;
    }
    strings
}

fn text(data: &[u8], (start, end): (usize, usize)) -> String {
    let pairs = data[2 * start..2 * end].chunks_exact(2);
    let units: Vec<u16> = pairs.map(|p| u16::from_le_bytes([p[0], p[1]])).collect();
    String::from_utf16_lossy(&units)
}

/// The strings, to the end of the data and without empty ones.
#[must_use]
pub fn strings(data: &[u8]) -> Vec<String> {
    let strings = all(data).into_iter().map(|string| text(data, string));
    strings.filter(|string| !string.is_empty()).collect()
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

/// With `name` behind the last one before an empty one, as AddReg's append does it.
#[must_use]
pub fn with(data: &[u8], name: &str) -> Vec<u8> {
    let strings = all(data);
    let entries: Vec<_> = strings
        .iter()
        .take_while(|(start, end)| start < end)
        .collect();
    let last = entries.last().map_or(0, |(_, end)| *end);
    let end = data.len() / 2;
    let mut edited = data[..2 * last].to_vec();
    // What is behind the last entry and its NUL, which it may lack.
    let behind = (2 * last + if entries.is_empty() { 0 } else { 2 }).min(2 * end);
    if !entries.is_empty() {
        edited.extend([0, 0]);
    }
    edited.extend(name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    match &data[behind..] {
        rest @ [_, _, ..] => edited.extend(rest),
        rest => edited.extend([0, 0].iter().chain(rest)),
    }
    edited
}

/// Without `name`, wherever and however often it is there.
#[must_use]
pub fn without(data: &[u8], name: &str) -> Vec<u8> {
    let mut edited = data.to_vec();
    for string in all(data).into_iter().rev() {
        if text(data, string).eq_ignore_ascii_case(name) {
            let end = (2 * string.1 + 2).min(edited.len());
            edited.drain(2 * string.0..end);
        }
    }
    edited
}
