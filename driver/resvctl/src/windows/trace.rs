//! An ETW session of the program's own: to a file, which is read when the session is over.

use std::fs;
use std::mem::offset_of;
use std::path::PathBuf;
use std::process;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};

use windows_sys::Win32::System::Diagnostics::Etw::{
    CONTROLTRACE_HANDLE, CloseTrace, ControlTraceW, EVENT_CONTROL_CODE_ENABLE_PROVIDER,
    EVENT_HEADER_FLAG_64_BIT_HEADER, EVENT_PROPERTY_INFO, EVENT_RECORD, EVENT_TRACE_CONTROL_STOP,
    EVENT_TRACE_FILE_MODE_SEQUENTIAL, EVENT_TRACE_LOGFILEW, EVENT_TRACE_LOGFILEW_0,
    EVENT_TRACE_LOGFILEW_1, EVENT_TRACE_PROPERTIES, EnableTraceEx2, OpenTraceW,
    PROCESS_TRACE_MODE_EVENT_RECORD, PROCESSTRACE_HANDLE, ProcessTrace, StartTraceW,
    TRACE_EVENT_INFO, TdhFormatProperty, TdhGetEventInformation, WNODE_FLAG_TRACED_GUID,
    WNODE_HEADER,
};
use windows_sys::core::GUID;

use super::{last_error, narrow, size, status, wide};
use crate::layouts::{self, Field};
use crate::machine::{Answer, Session, Traced, Win32};

// `layouts::event` reads these structures by its own numbers.
const _: () = {
    assert!(offset_of!(TRACE_EVENT_INFO, TaskNameOffset) == layouts::event::TASK_NAME);
    assert!(offset_of!(TRACE_EVENT_INFO, Anonymous1) == layouts::event::NAME);
    assert!(offset_of!(TRACE_EVENT_INFO, TopLevelPropertyCount) == layouts::event::COUNT);
    assert!(offset_of!(TRACE_EVENT_INFO, EventPropertyInfoArray) == layouts::event::PROPERTIES);
    assert!(offset_of!(EVENT_PROPERTY_INFO, Flags) == layouts::event::FLAGS);
    assert!(offset_of!(EVENT_PROPERTY_INFO, NameOffset) == layouts::event::PROPERTY_NAME);
    assert!(offset_of!(EVENT_PROPERTY_INFO, Anonymous1) == layouts::event::IN_TYPE);
    assert!(offset_of!(EVENT_PROPERTY_INFO, Anonymous2) == layouts::event::ELEMENTS);
    assert!(offset_of!(EVENT_PROPERTY_INFO, Anonymous3) == layouts::event::LENGTH);
    assert!(size_of::<EVENT_PROPERTY_INFO>() == layouts::event::PROPERTY);
};

/// A session's properties, with the room for its name and its file's that they point to.
#[repr(C)]
struct Properties {
    head: EVENT_TRACE_PROPERTIES,
    name: [u16; 64],
    file: [u16; 1024],
}

impl Properties {
    #[allow(clippy::cast_possible_truncation, reason = "two offsets below 4096")]
    fn new() -> Self {
        let head = EVENT_TRACE_PROPERTIES {
            Wnode: WNODE_HEADER {
                BufferSize: size::<Self>(),
                Flags: WNODE_FLAG_TRACED_GUID,
                // The performance counter.
                ClientContext: 1,
                ..Default::default()
            },
            // In KiB. A self-test's events are a few hundred, of some hundred bytes.
            BufferSize: 64,
            MinimumBuffers: 16,
            MaximumBuffers: 64,
            LogFileMode: EVENT_TRACE_FILE_MODE_SEQUENTIAL,
            LoggerNameOffset: offset_of!(Self, name) as u32,
            LogFileNameOffset: offset_of!(Self, file) as u32,
            ..Default::default()
        };
        Self {
            head,
            name: [0; 64],
            file: [0; 1024],
        }
    }
}

/// A session that runs, and its file.
pub(super) struct Recording {
    session: CONTROLTRACE_HANDLE,
    provider: GUID,
    file: PathBuf,
    runs: bool,
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.end();
        let _ = fs::remove_file(&self.file);
    }
}

impl Recording {
    pub(super) fn start(provider: u128) -> Answer<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("resvctl-{}-{number}", process::id());
        let file = std::env::temp_dir().join(format!("{name}.etl"));
        let path = wide(file.to_str().ok_or(Win32::INVALID_DATA)?);
        let mut properties = Properties::new();
        let room = properties.file.get_mut(..path.len());
        room.ok_or(Win32::INVALID_DATA)?.copy_from_slice(&path);
        let (name, head) = (wide(&name), (&raw mut properties).cast());
        let mut session = CONTROLTRACE_HANDLE::default();
        // SAFETY: a live place, a string with its NUL, and properties with both names in the size that they say.
        status(unsafe { StartTraceW(&raw mut session, name.as_ptr(), head) })?;
        let recording = Self {
            session,
            provider: GUID::from_u128(provider),
            file,
            runs: true,
        };
        // All levels and keywords; back when the provider was told, or after these milliseconds.
        let (on, provider) = (
            EVENT_CONTROL_CODE_ENABLE_PROVIDER,
            &raw const recording.provider,
        );
        // SAFETY: a session that runs, a live GUID, and no parameters.
        status(unsafe {
            EnableTraceEx2(session, provider, on, u8::MAX, u64::MAX, 0, 5000, null())
        })?;
        Ok(recording)
    }

    /// Ends the session: how many events and buffers of them it lost.
    fn end(&mut self) -> Answer<u32> {
        if !std::mem::take(&mut self.runs) {
            return Ok(0);
        }
        let mut properties = Properties::new();
        let (head, stop) = ((&raw mut properties).cast(), EVENT_TRACE_CONTROL_STOP);
        // SAFETY: a session that runs, and properties with room for both names in the size that they say.
        status(unsafe { ControlTraceW(self.session, null(), head, stop) })?;
        let head = &properties.head;
        Ok(head.EventsLost.saturating_add(head.LogBuffersLost))
    }
}

impl Session for Recording {
    fn stop(mut self: Box<Self>) -> Answer<Vec<Traced>> {
        // A part of what happened is not what happened.
        if self.end()? != 0 {
            return Err(Win32::MORE_DATA);
        }
        let mut consumer = Consumer {
            provider: id(&self.provider),
            events: Vec::new(),
            error: None,
        };
        let mut file = wide(self.file.to_str().ok_or(Win32::INVALID_DATA)?);
        let mut log = EVENT_TRACE_LOGFILEW {
            LogFileName: file.as_mut_ptr(),
            Anonymous1: EVENT_TRACE_LOGFILEW_0 {
                ProcessTraceMode: PROCESS_TRACE_MODE_EVENT_RECORD,
            },
            Anonymous2: EVENT_TRACE_LOGFILEW_1 {
                EventRecordCallback: Some(record),
            },
            Context: (&raw mut consumer).cast(),
            ..Default::default()
        };
        // SAFETY: a live structure whose name ends in a NUL and whose callback takes that context.
        let opened = unsafe { OpenTraceW(&raw mut log) };
        // INVALID_PROCESSTRACE_HANDLE
        if opened.Value == u64::MAX {
            return Err(last_error());
        }
        let opened = Opened(opened);
        // SAFETY: a trace that is open; the consumer lives, and nobody else uses it until the function returns.
        status(unsafe { ProcessTrace(&raw const opened.0, 1, null(), null()) })?;
        drop(opened);
        consumer.error.map_or(Ok(consumer.events), Err)
    }
}

/// A trace that is open for reading.
struct Opened(PROCESSTRACE_HANDLE);

impl Drop for Opened {
    fn drop(&mut self) {
        // SAFETY: the trace is open, and nobody else closes it.
        unsafe { CloseTrace(self.0) };
    }
}

fn id(guid: &GUID) -> (u32, u16, u16, [u8; 8]) {
    (guid.data1, guid.data2, guid.data3, guid.data4)
}

/// Who is handed the records.
struct Consumer {
    provider: (u32, u16, u16, [u8; 8]),
    events: Vec<Traced>,
    /// The first that could not be decoded.
    error: Option<Win32>,
}

/// What `ProcessTrace` calls for each record.
unsafe extern "system" fn record(record: *mut EVENT_RECORD) {
    // SAFETY: `ProcessTrace` hands over a record that is valid until this returns.
    let record = unsafe { &*record };
    // SAFETY: the context is what `OpenTraceW` was given, and is this function's while `ProcessTrace` runs.
    let Some(consumer) = (unsafe { record.UserContext.cast::<Consumer>().as_mut() }) else {
        return;
    };
    // The session has its own, too.
    if id(&record.EventHeader.ProviderId) != consumer.provider {
        return;
    }
    match decode(record) {
        Ok(event) => consumer.events.push(event),
        Err(error) => consumer.error = consumer.error.or(Some(error)),
    }
}

fn decode(record: &EVENT_RECORD) -> Answer<Traced> {
    let mut needed = 0;
    // SAFETY: a record that is valid, and no buffer: its size is told.
    match unsafe { TdhGetEventInformation(record, 0, null(), null_mut(), &raw mut needed) } {
        0 => return Err(Win32::INVALID_DATA),
        result => match status(result) {
            Err(Win32::INSUFFICIENT_BUFFER) => {}
            result => result?,
        },
    }
    // u64s for the structure's alignment.
    let mut words = vec![0_u64; (needed as usize).div_ceil(8)];
    let info: *mut TRACE_EVENT_INFO = words.as_mut_ptr().cast();
    // SAFETY: a record that is valid, and a buffer of at least that size.
    status(unsafe { TdhGetEventInformation(record, 0, null(), info, &raw mut needed) })?;
    let description: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let data = if record.UserData.is_null() {
        &[]
    } else {
        let (data, length) = (record.UserData.cast(), record.UserDataLength.into());
        // SAFETY: the record's data has that length, and is valid as long as the record.
        unsafe { std::slice::from_raw_parts(data, length) }
    };
    let pointer = match u32::from(record.EventHeader.Flags) & EVENT_HEADER_FLAG_64_BIT_HEADER {
        0 => 4,
        _ => 8,
    };
    let (name, fields) = layouts::event(&description, data, &mut |field| {
        // SAFETY: the description that TDH wrote, which lives.
        unsafe { format(info, pointer, field) }
    })?;
    let header = &record.EventHeader.EventDescriptor;
    Ok(Traced {
        name,
        level: header.Level,
        keyword: header.Keyword,
        fields,
    })
}

/// A field's text by TDH, and how many bytes it took.
///
/// # Safety
/// `info` is a description that TDH wrote.
unsafe fn format(
    info: *const TRACE_EVENT_INFO,
    pointer: u32,
    field: Field<'_>,
) -> Answer<(String, usize)> {
    let mut text = vec![0_u16; 1024];
    loop {
        let (mut room, mut used) = (super::length(&text), 0);
        let left = u16::try_from(field.data.len()).map_err(|_| Win32::INVALID_DATA)?;
        // SAFETY: by the promise; no map, so many bytes of data, a buffer of `room` bytes, and a live place.
        let result = unsafe {
            TdhFormatProperty(
                info,
                null(),
                pointer,
                field.in_type,
                field.out_type,
                field.length,
                left,
                field.data.as_ptr(),
                &raw mut room,
                text.as_mut_ptr(),
                &raw mut used,
            )
        };
        match status(result) {
            Err(Win32::INSUFFICIENT_BUFFER) if room > super::length(&text) => {
                text.resize((room as usize).div_ceil(2), 0);
            }
            result => return result.map(|()| (narrow(&text), used.into())),
        }
    }
}
