//! Events for ETW that carry their own description (`TraceLogging`): a provider, and the bytes that tell what an
//! event and its fields are called.
//!
//! An event goes out as the provider's traits, the event's metadata and its fields, a data descriptor each. The traits
//! are their size in 16 bits and the provider's name; the metadata are their size, a zero (no tags), the event's name,
//! and for each field its name and its type. Names end in a NUL.
//!
//! These are the bytes of Microsoft's `tracelogging` crate. The crate itself can't be here: its `register` panics on
//! misuse, so that the image would import `KeBugCheckEx`, and it links a library of user mode.

#![allow(
    clippy::inline_always,
    reason = "of an event that is known only the stores of its values are left"
)]

use core::marker::PhantomData;
use core::ptr::{self, null};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use scsi_reserve::NtStatus;
use wdk_sys::ntddk::{EtwRegister, EtwSetInformation, EtwUnregister, EtwWriteTransfer};
use wdk_sys::{
    _EVENT_INFO_CLASS, EVENT_DATA_DESCRIPTOR, EVENT_DESCRIPTOR, GUID, LPCGUID,
    PEVENT_FILTER_DESCRIPTOR, PVOID, UCHAR, ULONG, ULONGLONG,
};

use super::object::check;
use super::registry::Utf16;

/// How much an event matters (winmeta.h).
#[derive(Clone, Copy)]
pub enum Level {
    Warning = 3,
    Information = 4,
    Verbose = 5,
}

/// Declares a provider and its events: an enum with a variant for each, which can be written.
macro_rules! events {
    (
        $(#[$about_provider:meta])*
        provider $provider:ident = $text:literal, $id:expr;
        $(#[$about:meta])*
        enum $happening:ident<$life:lifetime> {
            $($(#[$doc:meta])* $event:ident: $level:ident, $keyword:ident {
                $($field:ident: $type:ident $(<$of:lifetime>)?),* $(,)?
            })*
        }
    ) => {
        $(#[$about_provider])*
        pub static $provider: $crate::wdf::Provider = {
            const TRAITS: [u8; $text.len() + 3] = $crate::wdf::traits($text);
            $crate::wdf::Provider::new($id, &TRAITS)
        };

        $(#[$about])*
        pub enum $happening<$life> { $($(#[$doc])* $event { $($field: $type $(<$of>)?),* },)* }

        impl<$life> $happening<$life> {
            /// Writes the event, if somebody listens to its level. Any IRQL.
            #[allow(clippy::inline_always, reason = "see `wdf::etw`")]
            #[inline(always)]
            pub fn write(&self) {
                use $crate::wdf::{Event, Field, Level, Payload, metadata, metadata_size, texts};
                match self {
                    $(Self::$event { $($field),* } => {
                        const NAME: &str = stringify!($event);
                        const FIELDS: &[(&str, &[u8])] =
                            &[$((stringify!($field), <$type as Field>::TYPE)),*];
                        const SIZES: &[u8] = &[$(<$type as Field>::SIZE),*];
                        const TEXTS: usize = texts(SIZES);
                        const METADATA: [u8; metadata_size(NAME, FIELDS)] = metadata(NAME, FIELDS);
                        static EVENT: Event<[u8; SIZES.len() + METADATA.len()]> =
                            Event::new(Level::$level, $keyword, SIZES, &METADATA);
                        let payload = Payload::<'_, { SIZES.len() - TEXTS }, TEXTS>::new();
                        $(let payload = $field.put(payload);)*
                        match TEXTS {
                            0 => $provider.write_numbers(&EVENT, &payload.numbers),
                            _ => $provider.write(&EVENT, &payload.numbers, &payload.texts),
                        }
                    })*
                }
            }
        }
    };
}
pub(crate) use events;

/// A provider of events.
pub struct Provider {
    id: GUID,
    traits: &'static [u8],
    /// 0 until it is registered.
    handle: AtomicU64,
    /// One more than the highest level that is listened to; 0 if none is.
    levels: AtomicU32,
}

impl Provider {
    pub const fn new(id: GUID, traits: &'static [u8]) -> Self {
        Self {
            id,
            traits,
            handle: AtomicU64::new(0),
            levels: AtomicU32::new(0),
        }
    }

    /// Whether anybody listens to anything of it. Any IRQL.
    pub fn is_enabled(&self) -> bool {
        self.levels.load(Ordering::Relaxed) != 0
    }

    /// Makes it known to ETW; without memory for that, nobody can listen. `PASSIVE_LEVEL`.
    ///
    /// # Safety
    /// It isn't registered, and will not be when the driver is unloaded.
    pub unsafe fn register(&'static self) {
        let mut handle = 0;
        // SAFETY: callback and context last until the provider is unregistered.
        let status = unsafe {
            EtwRegister(
                &raw const self.id,
                Some(enable),
                ptr::from_ref(self).cast_mut().cast(),
                &raw mut handle,
            )
        };
        if check(status).is_err() {
            return;
        }
        self.handle.store(handle, Ordering::Relaxed);
        // SAFETY: the handle is live; the traits are as long as they are said to be, and are only read.
        let _events_bring_them_too = unsafe {
            EtwSetInformation(
                handle,
                _EVENT_INFO_CLASS::EventProviderSetTraits,
                self.traits.as_ptr().cast_mut().cast(),
                length(self.traits),
            )
        };
    }

    /// Takes it back; what is written later goes nowhere. `PASSIVE_LEVEL`.
    pub fn unregister(&self) {
        let handle = self.handle.swap(0, Ordering::Relaxed);
        if handle != 0 {
            // SAFETY: the handle is live, and used no more.
            let _says_only_what_was_wrong_with_it = unsafe { EtwUnregister(handle) };
        }
        self.levels.store(0, Ordering::Relaxed);
    }

    /// Writes an event without texts. Any IRQL.
    #[inline(never)]
    pub fn write_numbers(&self, event: &'static Event, numbers: &[u64]) {
        self.write(event, numbers, &[]);
    }

    /// Writes an event with the values of its fields: the numbers in their order, and the texts in theirs. Any IRQL.
    #[inline(never)]
    pub fn write(&self, event: &'static Event, numbers: &[u64], texts: &[&[u16]]) {
        const PROVIDER_METADATA: ULONG = 2;
        const EVENT_METADATA: ULONG = 1;
        if self.levels.load(Ordering::Relaxed) <= ULONG::from(event.descriptor.Level) {
            return;
        }
        let (mut numbers, mut texts) = (numbers.iter(), texts.iter());
        let mut data = [Data::NONE; 2 + MAX_FIELDS];
        let [traits, metadata, fields @ ..] = &mut data;
        *traits = Data::of(self.traits, PROVIDER_METADATA);
        let (sizes, names) = event
            .bytes
            .split_at_checked(event.fields.into())
            .unwrap_or_default();
        *metadata = Data::of(names, EVENT_METADATA);
        for (field, &size) in fields.iter_mut().zip(sizes) {
            *field = match size {
                TEXT => Data::of(texts.next().copied().unwrap_or_default(), 0),
                bytes => Data::number(numbers.next().unwrap_or(&0), bytes),
            };
        }
        // SAFETY: all that is pointed to lives, in memory that isn't paged, and `Data` is a descriptor.
        let _lost_if_the_session_is_full = unsafe {
            EtwWriteTransfer(
                self.handle.load(Ordering::Relaxed),
                &raw const event.descriptor,
                null(),
                null(),
                2 + length(sizes),
                data.as_mut_ptr().cast(),
            )
        };
    }
}

/// `ETWENABLECALLBACK`.
unsafe extern "C" fn enable(
    _source: LPCGUID,
    control: ULONG,
    level: UCHAR,
    _any_keyword: ULONGLONG,
    _all_keywords: ULONGLONG,
    _filter: PEVENT_FILTER_DESCRIPTOR,
    context: PVOID,
) {
    const DISABLE: ULONG = 0;
    const ENABLE: ULONG = 1;
    // SAFETY: `register` gave a static.
    let provider = unsafe { &*context.cast::<Provider>() };
    let levels = match (control, level) {
        (DISABLE, _) => 0,
        // All of them.
        (ENABLE, 0) => ULONG::from(UCHAR::MAX) + 1,
        (ENABLE, level) => ULONG::from(level) + 1,
        _ => return,
    };
    // What keywords are listened to, ETW looks at itself.
    provider.levels.store(levels, Ordering::Relaxed);
}

/// The most fields that an event may have.
const MAX_FIELDS: usize = 9;

/// One kind of event.
pub struct Event<B: ?Sized = [u8]> {
    descriptor: EVENT_DESCRIPTOR,
    /// How many.
    fields: u8,
    /// Of each field a number's bytes, or [`TEXT`]; then the metadata.
    bytes: B,
}

impl<const N: usize> Event<[u8; N]> {
    #[allow(clippy::cast_possible_truncation, reason = "at most `MAX_FIELDS`")]
    pub const fn new(level: Level, keyword: u64, sizes: &[u8], metadata: &[u8]) -> Self {
        /// `WINEVENT_CHANNEL_TRACELOGGING`
        const TRACE_LOGGING: UCHAR = 11;
        assert!(sizes.len() <= MAX_FIELDS);
        assert!(sizes.len() + metadata.len() == N);
        let mut bytes = [0; N];
        let mut at = 0;
        while at < sizes.len() {
            assert!(sizes[at] as usize <= size_of::<u64>());
            bytes[at] = sizes[at];
            at += 1;
        }
        while at < N {
            bytes[at] = metadata[at - sizes.len()];
            at += 1;
        }
        Self {
            descriptor: EVENT_DESCRIPTOR {
                Id: 0,
                Version: 0,
                Channel: TRACE_LOGGING,
                Level: level as UCHAR,
                Opcode: 0,
                Task: 0,
                Keyword: keyword,
            },
            fields: sizes.len() as u8,
            bytes,
        }
    }
}

/// Where a part of an event lies.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Data<'a>(EVENT_DATA_DESCRIPTOR, PhantomData<&'a [u8]>);

impl<'a> Data<'a> {
    const NONE: Self = Self(
        EVENT_DATA_DESCRIPTOR {
            Ptr: 0,
            Size: 0,
            __bindgen_anon_1: wdk_sys::_EVENT_DATA_DESCRIPTOR__bindgen_ty_1 { Reserved: 0 },
        },
        PhantomData,
    );

    /// `kind` is the descriptor's `Type`.
    #[allow(clippy::cast_possible_truncation, reason = "events are small")]
    fn of<T>(items: &'a [T], kind: ULONG) -> Self {
        let mut data = Self::NONE;
        data.0.Ptr = items.as_ptr().expose_provenance() as ULONGLONG;
        data.0.Size = size_of_val(items) as ULONG;
        data.0.__bindgen_anon_1.Reserved = kind;
        data
    }

    /// The lower bytes of a number; on the processors that Windows runs on they come first.
    fn number(number: &'a u64, bytes: u8) -> Self {
        let mut data = Self::of(core::slice::from_ref(number), 0);
        data.0.Size = ULONG::from(bytes);
        data
    }
}

#[allow(clippy::cast_possible_truncation, reason = "events are small")]
const fn length<T>(items: &[T]) -> ULONG {
    items.len() as ULONG
}

/// The `SIZE` of a field that is text.
const TEXT: u8 = 0;

/// How many fields are text.
pub const fn texts(sizes: &[u8]) -> usize {
    let (mut texts, mut at) = (0, 0);
    while at < sizes.len() {
        texts += (sizes[at] == TEXT) as usize;
        at += 1;
    }
    texts
}

/// The values of an event's fields as they are collected. All of it is gone after inlining: what is left are stores.
pub struct Payload<'a, const NUMBERS: usize, const TEXTS: usize> {
    pub numbers: [u64; NUMBERS],
    pub texts: [&'a [u16]; TEXTS],
    used: (usize, usize),
}

impl<'a, const NUMBERS: usize, const TEXTS: usize> Payload<'a, NUMBERS, TEXTS> {
    #[inline(always)]
    pub fn new() -> Self {
        Self {
            numbers: [0; NUMBERS],
            texts: [&[]; TEXTS],
            used: (0, 0),
        }
    }

    #[inline(always)]
    fn with_number(mut self, number: u64) -> Self {
        if let Some(place) = self.numbers.get_mut(self.used.0) {
            *place = number;
            self.used.0 += 1;
        }
        self
    }

    #[inline(always)]
    fn with_text(mut self, units: &'a [u16]) -> Self {
        if let Some(place) = self.texts.get_mut(self.used.1) {
            *place = units;
            self.used.1 += 1;
        }
        self
    }
}

/// What an event's field can be.
pub trait Field {
    /// Its type: an input type, and if that has its top bit set an output type (`TraceLoggingProvider.h`).
    const TYPE: &'static [u8];
    /// Its bytes, or [`TEXT`].
    const SIZE: u8;

    /// Adds its value.
    fn put<'a, const N: usize, const T: usize>(
        &'a self,
        payload: Payload<'a, N, T>,
    ) -> Payload<'a, N, T>;
}

/// A number that is shown in base 16.
pub struct Hex(pub u32);

/// Text of the system's, with its NUL.
#[derive(Clone, Copy)]
pub struct Text<'a>(&'a [u16]);

impl<'a> Text<'a> {
    /// Up to the first NUL; none if there is no NUL.
    pub fn new(units: &'a [u16]) -> Self {
        let end = units.iter().position(|&unit| unit == 0);
        let text = end.and_then(|end| units.get(..=end));
        Self(text.unwrap_or(&[0]))
    }
}

macro_rules! fields {
    ($($type:ty = [$($code:literal),*], $size:expr, $put:ident($name:ident => $value:expr);)*) => {
        $(impl Field for $type {
            const TYPE: &'static [u8] = &[$($code),*];
            const SIZE: u8 = $size;

            #[inline(always)]
            fn put<'a, const N: usize, const T: usize>(
                &'a self,
                payload: Payload<'a, N, T>,
            ) -> Payload<'a, N, T> {
                let $name = self;
                payload.$put($value)
            }
        })*
    };
}

fields! {
    // UINT8, in base 16
    u8 = [0x84, 4], 1, with_number(byte => u64::from(*byte));
    // UINT32
    u32 = [8], 4, with_number(number => u64::from(*number));
    // UINT64
    u64 = [10], 8, with_number(number => *number);
    // HEXINT32
    Hex = [20], 4, with_number(number => u64::from(number.0));
    // HEXINT32, an NTSTATUS
    NtStatus = [0x94, 14], 4, with_number(status => u64::from(status.0.cast_unsigned()));
    // UNICODESTRING, with its NUL
    Utf16 = [1], TEXT, with_text(text => text.with_nul());
    Text<'_> = [1], TEXT, with_text(text => text.0);
}

/// The traits of a provider; `N` is the name's length and 3.
#[allow(clippy::cast_possible_truncation, reason = "the name is short")]
pub const fn traits<const N: usize>(name: &str) -> [u8; N] {
    let mut bytes = Bytes::<N>::new();
    bytes.push((N as u16).to_le_bytes());
    bytes.push_name(name, false);
    bytes.full()
}

/// How large the metadata of an event are.
pub const fn metadata_size(event: &str, fields: &[(&str, &[u8])]) -> usize {
    let mut size = 3 + event.len() + 1;
    let mut at = 0;
    while at < fields.len() {
        let (name, kind) = fields[at];
        let mut unit = 0;
        while unit < name.len() {
            size += (name.as_bytes()[unit] != b'_') as usize;
            unit += 1;
        }
        size += 1 + kind.len();
        at += 1;
    }
    size
}

/// The metadata of an event. A field `like_this` is called `LikeThis` in them.
#[allow(clippy::cast_possible_truncation, reason = "events are small")]
pub const fn metadata<const N: usize>(event: &str, fields: &[(&str, &[u8])]) -> [u8; N] {
    let mut bytes = Bytes::<N>::new();
    bytes.push((N as u16).to_le_bytes());
    bytes.push([0]);
    bytes.push_name(event, false);
    let mut at = 0;
    while at < fields.len() {
        let (name, kind) = fields[at];
        bytes.push_name(name, true);
        let mut code = 0;
        while code < kind.len() {
            bytes.push([kind[code]]);
            code += 1;
        }
        at += 1;
    }
    bytes.full()
}

/// Bytes that are put together at compile time.
struct Bytes<const N: usize> {
    bytes: [u8; N],
    used: usize,
}

impl<const N: usize> Bytes<N> {
    const fn new() -> Self {
        Self {
            bytes: [0; N],
            used: 0,
        }
    }

    const fn push<const M: usize>(&mut self, bytes: [u8; M]) {
        let mut at = 0;
        while at < M {
            self.bytes[self.used] = bytes[at];
            self.used += 1;
            at += 1;
        }
    }

    const fn push_name(&mut self, name: &str, capitalize: bool) {
        let name = name.as_bytes();
        let mut at = 0;
        while at < name.len() {
            let begins = capitalize && (at == 0 || name[at - 1] == b'_');
            if begins {
                self.push([name[at].to_ascii_uppercase()]);
            } else if name[at] != b'_' {
                self.push([name[at]]);
            }
            at += 1;
        }
        self.push([0]);
    }

    const fn full(self) -> [u8; N] {
        assert!(self.used == N);
        self.bytes
    }
}
