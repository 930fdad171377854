//! ETW as a kernel driver meets it. A [`Session`] listens in one world; what a driver writes there is decoded from the
//! description that each event carries (TraceLogging: traits of the provider, metadata of the event, fields).

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use windows_sys::Win32::System::Diagnostics::Etw::{
    EVENT_CONTROL_CODE_DISABLE_PROVIDER, EVENT_CONTROL_CODE_ENABLE_PROVIDER, EVENT_DATA_DESCRIPTOR,
    EVENT_DATA_DESCRIPTOR_TYPE_EVENT_METADATA, EVENT_DATA_DESCRIPTOR_TYPE_NONE,
    EVENT_DATA_DESCRIPTOR_TYPE_PROVIDER_METADATA, EVENT_DESCRIPTOR, EventProviderSetTraits,
};
use windows_sys::core::GUID;

use crate::abi::{Status, irql, status};
use crate::rules;
use crate::world::{self, World};

/// WINEVENT_CHANNEL_TRACELOGGING (winmeta.h).
const TRACE_LOGGING: u8 = 11;

/// What a session asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Events of this level and of those that matter more; 0: of all levels.
    pub level: u8,
    /// Events with any of these keywords, or with none.
    pub keywords: u64,
}

impl Ask {
    /// Everything.
    pub const ALL: Self = Self {
        level: 0,
        keywords: u64::MAX,
    };
    const NOTHING: Self = Self {
        level: 0,
        keywords: 0,
    };

    fn wants(self, event: &EVENT_DESCRIPTOR) -> bool {
        (self.level == 0 || event.Level <= self.level)
            && (event.Keyword == 0 || event.Keyword & self.keywords != 0)
    }
}

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number in base 10.
    Decimal(u64),
    /// A number in base 16.
    Hex(u64),
    /// An NTSTATUS.
    Status(u32),
    /// Text.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal(number) => number.fmt(f),
            Self::Hex(number) => write!(f, "{number:#x}"),
            Self::Status(status) => write!(f, "{status:#010x}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// A field of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: &'static str,
    /// What it says.
    pub value: Value,
}

/// An event that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The provider's name in the event.
    pub provider: String,
    /// The provider's GUID, as its registration gave it.
    pub id: u128,
    /// What is told.
    pub name: String,
    /// How much it matters: 1 critical, 2 error, 3 warning, 4 information, 5 verbose.
    pub level: u8,
    /// Its category.
    pub keyword: u64,
    /// Its description, as it was written.
    pub metadata: Vec<u8>,
    /// What it says.
    pub fields: Vec<Field>,
}

/// The event as one line: its name and its fields.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for field in &self.fields {
            write!(f, " {}={}", field.name, field.value)?;
        }
        Ok(())
    }
}

/// Somebody who listens to all providers of a world; one at a time. Ends when dropped.
pub struct Session {
    world: Arc<World>,
}

impl Session {
    /// A session that asks for nothing yet.
    pub fn new(world: &Arc<World>) -> Self {
        etw().worlds.insert(key(world), Heard::default());
        Self {
            world: Arc::clone(world),
        }
    }

    /// Asks for events; providers that are registered, and those that come, are told.
    pub fn listen(&self, ask: Ask) {
        self.ask(Some(ask));
    }

    /// Asks for nothing any more.
    pub fn ignore(&self) {
        self.ask(None);
    }

    fn ask(&self, ask: Option<Ask>) {
        let world = key(&self.world);
        let told: Vec<_> = {
            let mut etw = etw();
            if let Some(heard) = etw.worlds.get_mut(&world) {
                heard.ask = ask;
            }
            let here = |provider: &&Provider| provider.world == world;
            etw.providers.values().filter(here).cloned().collect()
        };
        for provider in told {
            provider.tell(ask);
        }
    }

    /// The events since the last call of this.
    pub fn take(&self) -> Vec<Event> {
        let mut etw = etw();
        let heard = etw.worlds.get_mut(&key(&self.world));
        heard.map_or_else(Vec::new, |heard| std::mem::take(&mut heard.events))
    }

    /// How often EtwWriteTransfer was called in the world, whether anybody listened or not.
    pub fn calls(&self) -> usize {
        etw()
            .worlds
            .get(&key(&self.world))
            .map_or(0, |heard| heard.calls)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ignore();
        etw().worlds.remove(&key(&self.world));
    }
}

#[derive(Default)]
struct Heard {
    ask: Option<Ask>,
    events: Vec<Event>,
    calls: usize,
}

/// An ETWENABLECALLBACK.
type Enable = unsafe extern "win64" fn(*const GUID, u32, u8, u64, u64, *mut c_void, *mut c_void);

#[derive(Clone)]
struct Provider {
    world: usize,
    node: Arc<str>,
    id: GUID,
    enable: Option<Enable>,
    context: usize,
    traits: Vec<u8>,
}

impl Provider {
    /// Calls its callback, as ETW does on a change of what is asked for.
    fn tell(&self, ask: Option<Ask>) {
        let Some(enable) = self.enable else { return };
        let (control, ask) = match ask {
            Some(ask) => (EVENT_CONTROL_CODE_ENABLE_PROVIDER, ask),
            None => (EVENT_CONTROL_CODE_DISABLE_PROVIDER, Ask::NOTHING),
        };
        let (id, level, any) = (&raw const self.id, ask.level, ask.keywords);
        let (none, context) = (std::ptr::null_mut(), self.context as *mut c_void);
        let thread = world::current();
        let before = thread.set_node(Arc::clone(&self.node));
        thread.into_driver("EnableCallback", || {
            // SAFETY: called as ETW calls it; the image is mapped while its provider is registered.
            unsafe { enable(id, control, level, any, 0, none, context) };
        });
        thread.set_node(before);
    }
}

#[derive(Default)]
struct Etw {
    worlds: BTreeMap<usize, Heard>,
    providers: BTreeMap<u64, Provider>,
    registrations: u64,
}

fn etw() -> MutexGuard<'static, Etw> {
    static ETW: LazyLock<Mutex<Etw>> = LazyLock::new(Mutex::default);
    ETW.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(world: &Arc<World>) -> usize {
    Arc::as_ptr(world) as usize
}

fn number(id: &GUID) -> u128 {
    u128::from(id.data1) << 96
        | u128::from(id.data2) << 80
        | u128::from(id.data3) << 64
        | u128::from(u64::from_be_bytes(id.data4))
}

/// Stops the run if the node's driver is still registered: the next call of its callback would run into nothing.
pub(crate) fn expect_unregistered(node: &str) {
    let left = etw()
        .providers
        .values()
        .find(|provider| &*provider.node == node)
        .cloned();
    if let Some(provider) = left {
        let found = format!("provider {:032x} of node {node}", number(&provider.id));
        rules::broken(&rules::ETW_LEFT_REGISTERED, &found);
    }
}

/// A function that ntoskrnl.exe exports.
pub(crate) fn find(symbol: &str) -> Option<*const c_void> {
    Some(match symbol {
        "EtwRegister" => register as *const c_void,
        "EtwSetInformation" => set_information as *const c_void,
        "EtwUnregister" => unregister as *const c_void,
        "EtwWriteTransfer" => write_transfer as *const c_void,
        _ => return None,
    })
}

fn serve<R>(call: &'static str, max_irql: u8, f: impl FnOnce(&world::Thread) -> R) -> R {
    let thread = world::current();
    thread.in_call(&thread.node(), call, || {
        if thread.irql() > max_irql {
            let found = format!("{call} at IRQL {}, allowed up to {max_irql}", thread.irql());
            rules::broken(&rules::IRQL_TOO_HIGH, &found);
        }
        f(&thread)
    })
}

unsafe extern "win64" fn register(
    id: *const GUID,
    enable: Option<Enable>,
    context: *mut c_void,
    handle: *mut u64,
) -> Status {
    serve("EtwRegister", irql::PASSIVE, |thread| {
        // SAFETY: the caller's GUID; a wild one faults and is reported.
        let id = unsafe { id.read() };
        if thread.world.allocation_fails("ETW registration") {
            return status::INSUFFICIENT_RESOURCES;
        }
        let provider = Provider {
            world: key(&thread.world),
            node: thread.node(),
            id,
            enable,
            context: context as usize,
            traits: Vec::new(),
        };
        let (number, ask) = {
            let mut etw = etw();
            let same =
                |other: &Provider| other.node == provider.node && number(&other.id) == number(&id);
            if etw.providers.values().any(same) {
                drop(etw);
                rules::broken(
                    &rules::ETW_REGISTERED_TWICE,
                    &format!("{:032x}", number(&id)),
                );
            }
            etw.registrations += 1;
            let number = etw.registrations;
            etw.providers.insert(number, provider.clone());
            (
                number,
                etw.worlds.get(&provider.world).and_then(|heard| heard.ask),
            )
        };
        // SAFETY: an out-parameter of the caller's.
        unsafe { handle.write(number) };
        if ask.is_some() {
            provider.tell(ask);
        }
        status::SUCCESS
    })
}

fn no_such_handle(call: &str, handle: u64) -> ! {
    rules::broken(
        &rules::ETW_HANDLE,
        &format!("{call} with handle {handle:#x}"),
    )
}

unsafe extern "win64" fn unregister(handle: u64) -> Status {
    serve("EtwUnregister", irql::PASSIVE, |_| {
        if etw().providers.remove(&handle).is_none() {
            no_such_handle("EtwUnregister", handle);
        }
        status::SUCCESS
    })
}

unsafe extern "win64" fn set_information(
    handle: u64,
    class: i32,
    information: *const u8,
    length: u32,
) -> Status {
    serve("EtwSetInformation", irql::PASSIVE, |_| {
        // SAFETY: the caller's buffer.
        let information = unsafe { bytes(information as u64, length) };
        let mut etw = etw();
        let Some(provider) = etw.providers.get_mut(&handle) else {
            drop(etw);
            no_such_handle("EtwSetInformation", handle);
        };
        if class != EventProviderSetTraits {
            return status::INVALID_PARAMETER;
        }
        provider.traits = information;
        status::SUCCESS
    })
}

unsafe extern "win64" fn write_transfer(
    handle: u64,
    descriptor: *const EVENT_DESCRIPTOR,
    _activity: *const GUID,
    _related_activity: *const GUID,
    count: u32,
    data: *const EVENT_DATA_DESCRIPTOR,
) -> Status {
    serve("EtwWriteTransfer", u8::MAX, |thread| {
        // SAFETY: the caller's descriptor.
        let descriptor = unsafe { descriptor.read() };
        // SAFETY: the caller's array.
        let data = unsafe { std::slice::from_raw_parts(data, count as usize) };
        let data: Vec<_> = data
            .iter()
            .map(|part| {
                // SAFETY: plain data in a union.
                let kind = unsafe { part.Anonymous.Reserved };
                // SAFETY: a part of the caller's event.
                (kind, unsafe { bytes(part.Ptr, part.Size) })
            })
            .collect();
        let provider = etw().providers.get(&handle).cloned();
        let Some(provider) = provider else {
            no_such_handle("EtwWriteTransfer", handle)
        };
        let event = decode(&provider, &descriptor, &data)
            .unwrap_or_else(|why| rules::broken(&rules::ETW_FORMAT, &why));
        if let Some(heard) = etw().worlds.get_mut(&key(&thread.world)) {
            heard.calls += 1;
            if heard.ask.is_some_and(|ask| ask.wants(&descriptor)) {
                heard.events.push(event);
            }
        }
        status::SUCCESS
    })
}

/// # Safety
/// The caller vouches for the memory; where it is wrong, the read faults and is reported.
unsafe fn bytes(address: u64, length: u32) -> Vec<u8> {
    // SAFETY: this function's.
    unsafe { std::slice::from_raw_parts(address as *const u8, length as usize) }.to_vec()
}

/// Reads an event as TraceLoggingProvider.h lays it out.
fn decode(
    provider: &Provider,
    descriptor: &EVENT_DESCRIPTOR,
    data: &[(u32, Vec<u8>)],
) -> Result<Event, String> {
    let [(first, traits), (second, metadata), fields @ ..] = data else {
        return Err(format!("{} data descriptors", data.len()));
    };
    let kinds = (*first, *second, descriptor.Channel);
    let right = (
        EVENT_DATA_DESCRIPTOR_TYPE_PROVIDER_METADATA,
        EVENT_DATA_DESCRIPTOR_TYPE_EVENT_METADATA,
        TRACE_LOGGING,
    );
    if kinds != right
        || fields
            .iter()
            .any(|(kind, _)| *kind != EVENT_DATA_DESCRIPTOR_TYPE_NONE)
    {
        return Err(format!("descriptor types and channel {kinds:?}"));
    }
    if *traits != provider.traits {
        return Err(format!(
            "traits {traits:x?}, registered {:x?}",
            provider.traits
        ));
    }
    let mut payload = Reader(
        &fields
            .iter()
            .flat_map(|(_, bytes)| bytes.clone())
            .collect::<Vec<_>>(),
    );
    let mut traits = Reader::sized(traits)?;
    let mut description = Reader::sized(metadata)?;
    // Tags: seven bits a byte, the top bit says that more follow.
    while description.byte()? & 0x80 != 0 {}
    let mut event = Event {
        provider: traits.name()?,
        id: number(&provider.id),
        name: description.name()?,
        level: descriptor.Level,
        keyword: descriptor.Keyword,
        metadata: metadata.clone(),
        fields: Vec::new(),
    };
    while !description.0.is_empty() {
        let name = description.name()?;
        let input = description.byte()?;
        let output = if input & 0x80 == 0 {
            0
        } else {
            description.byte()?
        };
        let (kind, value) = payload.value(input & 0x7F, output)?;
        event.fields.push(Field { name, kind, value });
    }
    if !payload.0.is_empty() {
        return Err(format!("{event}: {} bytes too many", payload.0.len()));
    }
    Ok(event)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// What begins with its own size.
    fn sized(bytes: &'a [u8]) -> Result<Self, String> {
        let mut reader = Self(bytes);
        match u16::from_le_bytes(reader.array()?) {
            size if usize::from(size) == bytes.len() => Ok(reader),
            size => Err(format!(
                "{} bytes that say that they are {size}",
                bytes.len()
            )),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (array, rest) = self.0.split_first_chunk().ok_or("it ends too early")?;
        self.0 = rest;
        Ok(*array)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    fn name(&mut self) -> Result<String, String> {
        let end = self
            .0
            .iter()
            .position(|&byte| byte == 0)
            .ok_or("a name without NUL")?;
        let name = String::from_utf8(self.0[..end].to_vec()).map_err(|error| error.to_string())?;
        self.0 = &self.0[end + 1..];
        Ok(name)
    }

    fn text(&mut self) -> Result<String, String> {
        let mut units = Vec::new();
        loop {
            match u16::from_le_bytes(self.array()?) {
                0 => return String::from_utf16(&units).map_err(|error| error.to_string()),
                unit => units.push(unit),
            }
        }
    }

    /// The input and output types of TraceLoggingProvider.h (TlgIn_t, TlgOut_t) that the driver uses.
    fn value(&mut self, input: u8, output: u8) -> Result<(&'static str, Value), String> {
        Ok(match (input, output) {
            (1, 0) => ("UTF-16", Value::Text(self.text()?)),
            (4, 4) => ("UINT8 hex", Value::Hex(self.byte()?.into())),
            (8, 0) => (
                "UINT32",
                Value::Decimal(u32::from_le_bytes(self.array()?).into()),
            ),
            (10, 0) => ("UINT64", Value::Decimal(u64::from_le_bytes(self.array()?))),
            (20, 0) => (
                "UINT32 hex",
                Value::Hex(u32::from_le_bytes(self.array()?).into()),
            ),
            (20, 14) => ("NTSTATUS", Value::Status(u32::from_le_bytes(self.array()?))),
            _ => return Err(format!("a field of type {input}, shown as {output}")),
        })
    }
}
