//! Structures that Windows hands over as bytes, and what is read of them. Nothing here calls Windows, so that all of it
//! can be tried anywhere.

use crate::machine::{Answer, Loaded, Verified, Win32};

/// Bytes in which numbers stand at known places.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn number<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    fn u16(self, at: usize) -> Option<u16> {
        self.number(at).map(u16::from_le_bytes)
    }

    fn u32(self, at: usize) -> Option<u32> {
        self.number(at).map(u32::from_le_bytes)
    }

    fn u64(self, at: usize) -> Option<u64> {
        self.number(at).map(u64::from_le_bytes)
    }

    /// An offset, or a length, of 32 bits.
    fn offset(self, at: usize) -> Option<usize> {
        self.u32(at).and_then(|offset| offset.try_into().ok())
    }

    fn from(self, at: usize) -> Option<Self> {
        self.0.get(at..).map(Self)
    }

    fn take(self, length: usize) -> Option<&'a [u8]> {
        self.0.get(..length)
    }
}

/// UTF-16 of so many bytes.
fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2);
    let units: Vec<u16> = units
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&units)
}

/// UTF-16 up to its NUL, or to the end: the text, and its bytes with the NUL.
fn utf16_with_nul(bytes: &[u8]) -> (String, usize) {
    let end = bytes.chunks_exact(2).position(|pair| pair == [0, 0]);
    match end.map(|units| 2 * units) {
        Some(end) => (utf16(&bytes[..end]), end + 2),
        None => (utf16(bytes), bytes.len()),
    }
}

/// `RTL_PROCESS_MODULE_INFORMATION_EX` of a 64-bit Windows (winsiderss/phnt, `ntldr.h`).
mod module {
    pub const NEXT: usize = 0;
    pub const IMAGE_SIZE: usize = 32;
    pub const FULL_PATH: std::ops::Range<usize> = 48..304;
    pub const CHECKSUM: usize = 304;
    pub const TIMESTAMP: usize = 308;
    pub const SIZE: usize = 320;
}

/// The image with this file's name, in what `NtQuerySystemInformation` hands over for `SystemModuleInformationEx`.
#[must_use]
pub fn loaded(list: &[u8], file: &str) -> Option<Loaded> {
    let mut rest = Bytes(list);
    // What follows the last one is too short for another, or has no name.
    while rest.0.len() >= module::SIZE {
        let path = rest.0.get(module::FULL_PATH)?;
        let end = path.iter().position(|byte| *byte == 0);
        let path = String::from_utf8_lossy(&path[..end.unwrap_or(path.len())]);
        let name = path.rsplit('\\').next().unwrap_or_default();
        if name.eq_ignore_ascii_case(file) {
            return Some(Loaded {
                size: rest.u32(module::IMAGE_SIZE)?,
                checksum: rest.u32(module::CHECKSUM)?,
                timestamp: rest.u32(module::TIMESTAMP)?,
                path: path.into_owned(),
            });
        }
        match rest.u16(module::NEXT)? {
            0 => break,
            next => rest = rest.from(next.into())?,
        }
    }
    None
}

/// `SYSTEM_VERIFIER_INFORMATION` of a 64-bit Windows, which from Windows 10 1903 on has 16 bytes more before the name
/// (winsiderss/phnt, `ntexapi.h`: that and `SYSTEM_VERIFIER_INFORMATION_LEGACY`).
mod verifier {
    pub const NEXT: usize = 0;
    pub const LEVEL: usize = 4;
    /// Of the newer layout alone: `RuleClasses`, a bit for each.
    pub const RULE_CLASSES: usize = 8;
    /// `VrfWDFRuleClass` (Windows-Driver-Frameworks, src/framework/shared/object/globals.cpp). Those below 32 have the bits
    /// of `verifier /flags`.
    pub const WDF: u32 = 33;
    /// Where the UNICODE_STRING stands, newer first.
    pub const NAMES: [usize; 2] = [24, 8];
    pub const NAME_SIZE: usize = 16;
    // Behind the name.
    pub const ATTEMPTED: usize = 12;
    pub const FAILED_DELIBERATELY: usize = 40;
    pub const LOADS: usize = 44;
    pub const UNLOADS: usize = 48;
    pub const CURRENT_PAGED: usize = 56;
    pub const CURRENT_NON_PAGED: usize = 60;
}

/// What Driver Verifier has counted of the driver with this file's name, in what `NtQuerySystemInformation` wrote to a
/// buffer at this address for `SystemVerifierInformation`; none if it does not watch it.
///
/// # Errors
/// `ERROR_INVALID_DATA` if an entry is neither of the two layouts.
pub fn verified(list: &[u8], address: usize, file: &str) -> Answer<Option<Verified>> {
    let list = Bytes(list);
    let mut at = 0;
    while at < list.0.len() {
        let (is_newer, (name, behind)) = verifier::NAMES
            .into_iter()
            .find_map(|name| {
                let found = verified_name(list, address, at + name)?;
                Some((name == verifier::NAMES[0], found))
            })
            .ok_or(Win32::INVALID_DATA)?;
        let counts = |rest: Bytes<'_>| {
            let classes = list.u64(at + verifier::RULE_CLASSES)?;
            Some(Verified {
                flags: list.u32(at + verifier::LEVEL)?,
                wdf: is_newer.then_some(classes >> verifier::WDF & 1 == 1),
                loads: rest.u32(verifier::LOADS)?,
                unloads: rest.u32(verifier::UNLOADS)?,
                allocations: rest.u32(verifier::ATTEMPTED)?,
                failed_on_purpose: rest.u32(verifier::FAILED_DELIBERATELY)?,
                outstanding: rest
                    .u32(verifier::CURRENT_PAGED)?
                    .saturating_add(rest.u32(verifier::CURRENT_NON_PAGED)?),
            })
        };
        if name.eq_ignore_ascii_case(file) {
            let counts = list.from(behind).and_then(counts);
            return counts.map(Some).ok_or(Win32::INVALID_DATA);
        }
        match list.offset(at + verifier::NEXT) {
            None | Some(0) => break,
            Some(next) => at += next,
        }
    }
    Ok(None)
}

/// The driver's name, if here is a UNICODE_STRING that points into the list; and what follows it. In the other layout
/// counts stand here, which don't.
fn verified_name(list: Bytes<'_>, address: usize, at: usize) -> Option<(String, usize)> {
    let length = usize::from(list.u16(at)?);
    let capacity = usize::from(list.u16(at + 2)?);
    let pointer = usize::try_from(list.u64(at + 8)?).ok()?;
    let text = list.from(pointer.checked_sub(address)?)?.take(length)?;
    let is_string = length != 0 && length.is_multiple_of(2) && length <= capacity;
    is_string.then(|| (utf16(text), at + verifier::NAME_SIZE))
}

/// `TRACE_EVENT_INFO` and its `EVENT_PROPERTY_INFO`s (tdh.h). [`crate::windows`] compares them with its declarations.
pub mod event {
    /// `TaskNameOffset`: before Windows 10 1809 this was a `TraceLogging` event's name.
    pub const TASK_NAME: usize = 68;
    /// `EventNameOffset`
    pub const NAME: usize = 92;
    /// `TopLevelPropertyCount`
    pub const COUNT: usize = 104;
    /// `EventPropertyInfoArray`
    pub const PROPERTIES: usize = 112;

    /// `Flags`
    pub const FLAGS: usize = 0;
    /// Of them: PropertyStruct, and PropertyParamLength and PropertyParamCount: another property has its length or count.
    pub const COMPOUND: u32 = 1 | 2 | 4;
    /// `NameOffset`
    pub const PROPERTY_NAME: usize = 4;
    /// `InType`
    pub const IN_TYPE: usize = 8;
    /// `OutType`
    pub const OUT_TYPE: usize = 10;
    /// `count`
    pub const ELEMENTS: usize = 16;
    /// `length`
    pub const LENGTH: usize = 18;
    /// The size of a property.
    pub const PROPERTY: usize = 24;
}

/// A field whose text is somebody else's to find.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// `TDH_INTYPE_...`
    pub in_type: u16,
    /// `TDH_OUTTYPE_...`
    pub out_type: u16,
    /// Its length, if the type does not say it.
    pub length: u16,
    /// The event's data, from this field on.
    pub data: &'a [u8],
}

/// An event's name, and its fields as text, from its `TRACE_EVENT_INFO` and its data. Numbers and text are read here, the
/// same whatever language Windows speaks; `other` finds the rest: its text, and how many bytes it took.
///
/// # Errors
/// `ERROR_INVALID_DATA` if the data is not what the description says; `ERROR_NOT_SUPPORTED` for structures and arrays;
/// those of `other`.
#[allow(clippy::type_complexity, reason = "the name, and the fields in pairs")]
pub fn event(
    info: &[u8],
    data: &[u8],
    other: &mut dyn FnMut(Field<'_>) -> Answer<(String, usize)>,
) -> Answer<(String, Vec<(String, String)>)> {
    let info = Bytes(info);
    let name = described(info, event::NAME)
        .or_else(|| described(info, event::TASK_NAME))
        .unwrap_or_default();
    let count = info.offset(event::COUNT).ok_or(Win32::INVALID_DATA)?;
    let (mut fields, mut rest) = (Vec::new(), data);
    for index in 0..count {
        let property = info
            .from(event::PROPERTIES + index * event::PROPERTY)
            .and_then(|rest| rest.take(event::PROPERTY));
        let property = Bytes(property.ok_or(Win32::INVALID_DATA)?);
        let number = |at| property.u16(at).unwrap_or_default();
        let flags = property.u32(event::FLAGS).unwrap_or_default();
        if flags & event::COMPOUND != 0 || number(event::ELEMENTS) > 1 {
            return Err(Win32::NOT_SUPPORTED);
        }
        let field = Field {
            in_type: number(event::IN_TYPE),
            out_type: number(event::OUT_TYPE),
            length: number(event::LENGTH),
            data: rest,
        };
        let (text, used) = match plain(field)? {
            Some(read) => read,
            None => other(field)?,
        };
        rest = rest.get(used..).ok_or(Win32::INVALID_DATA)?;
        let name = property
            .offset(event::PROPERTY_NAME)
            .and_then(|at| info.from(at))
            .map(|name| utf16_with_nul(name.0).0);
        fields.push((name.ok_or(Win32::INVALID_DATA)?, text));
    }
    Ok((name, fields))
}

/// A name that the description says the place of; none at 0.
fn described(info: Bytes<'_>, at: usize) -> Option<String> {
    let at = info.offset(at).filter(|at| *at != 0)?;
    let name = utf16_with_nul(info.from(at)?.0).0;
    // A few of TDH's own names end in a space.
    let name = name.trim_end();
    (!name.is_empty()).then(|| name.to_owned())
}

/// A number or a text with its NUL, and its bytes; none for another type.
fn plain(field: Field<'_>) -> Answer<Option<(String, usize)>> {
    // tdh.h: of TDH_INTYPE_... how many bytes, and whether signed.
    let (size, signed) = match field.in_type {
        // UNICODESTRING, without a length.
        1 if field.length == 0 => return Ok(Some(utf16_with_nul(field.data))),
        3 => (1, true),
        4 => (1, false),
        5 => (2, true),
        6 => (2, false),
        7 => (4, true),
        // HEXINT32 is 20, HEXINT64 21.
        8 | 20 => (4, false),
        9 => (8, true),
        10 | 21 => (8, false),
        _ => return Ok(None),
    };
    let bytes = Bytes(field.data).take(size).ok_or(Win32::INVALID_DATA)?;
    let mut wide = [0; 8];
    wide[..size].copy_from_slice(bytes);
    let number = u64::from_le_bytes(wide);
    // TDH_OUTTYPE_HEXINT8 to 64; ERRORCODE, WIN32ERROR, NTSTATUS, HRESULT. No type that is declared: as the input's.
    let text = if matches!(field.out_type, 16..=19 | 29..=32) || matches!(field.in_type, 20 | 21) {
        format!("{number:#x}")
    } else if signed {
        let unused = 64 - 8 * size;
        format!("{}", (number << unused).cast_signed() >> unused)
    } else {
        number.to_string()
    };
    Ok(Some((text, size)))
}
