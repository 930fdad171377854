//! The driver's own request: a SCSI pass-through to the next lower device, made once and used again and again.
//!
//! It is in one of three states: idle ([`PassThrough`]), formatted for one send ([`Prepared`]), or with the framework,
//! which gives it back through its completion routine ([`Returned`]). Each step consumes the one before, so that a
//! request that is out can't be touched, nor one sent that was not formatted anew.

use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ptr::{self, null_mut};

use scsi_reserve::verdict::{PASS_THROUGH_LENGTH, SCSI_STATUS_UNTOUCHED};
use scsi_reserve::{Answer, Cdb, Command, Form, NtStatus};
use wdk_sys::{
    _WDF_REQUEST_SEND_OPTIONS_FLAGS, IRP_MN_SCSI_CLASS, LONGLONG,
    PFN_WDF_REQUEST_COMPLETION_ROUTINE, PWDF_REQUEST_COMPLETION_PARAMS,
    SCSI_IOCTL_DATA_UNSPECIFIED, SCSI_PASS_THROUGH, STATUS_UNSUCCESSFUL, UCHAR, ULONG,
    WDF_REQUEST_REUSE_PARAMS, WDF_REQUEST_SEND_OPTIONS, WDFCONTEXT, WDFIOTARGET, WDFMEMORY,
    WDFREQUEST, call_unsafe_wdf_function_binding as call_unsafe,
};

use super::context::{Context, ContextSpace, context, set_context};
use super::device::Device;
use super::object::{attributes, check, size};
use super::srb::current_location;

/// `CTL_CODE(IOCTL_SCSI_BASE, 0x0401, METHOD_BUFFERED, FILE_READ_ACCESS | FILE_WRITE_ACCESS)` of `ntddscsi.h`; a
/// macro that has no binding.
const IOCTL_SCSI_PASS_THROUGH: ULONG = 0x4 << 16 | 3 << 14 | 0x401 << 2;

/// Sense bytes asked for: fixed-format sense with all its fields is 18 (SPC-2 7.20.2), descriptors may take more.
const SENSE_LENGTH: usize = 32;

/// What is sent and what comes back, one behind the other as `SenseInfoOffset` says.
#[repr(C)]
#[derive(Default)]
struct Buffer {
    header: SCSI_PASS_THROUGH,
    sense: [u8; SENSE_LENGTH],
}

const _: () = assert!(size_of::<SCSI_PASS_THROUGH>() == PASS_THROUGH_LENGTH);
const _: () = assert!(size_of::<Buffer>() == PASS_THROUGH_LENGTH + SENSE_LENGTH);

/// What is the same in each, byte by byte; the rest is zero.
const TEMPLATE: [u8; size_of::<Buffer>()] = {
    const BYTES: [(usize, usize); 6] = [
        (offset_of!(SCSI_PASS_THROUGH, Length), PASS_THROUGH_LENGTH),
        (
            offset_of!(SCSI_PASS_THROUGH, ScsiStatus),
            SCSI_STATUS_UNTOUCHED as usize,
        ),
        (offset_of!(SCSI_PASS_THROUGH, SenseInfoLength), SENSE_LENGTH),
        (
            offset_of!(SCSI_PASS_THROUGH, DataIn),
            SCSI_IOCTL_DATA_UNSPECIFIED as usize,
        ),
        (
            offset_of!(SCSI_PASS_THROUGH, SenseInfoOffset),
            PASS_THROUGH_LENGTH,
        ),
        // Behind the sense area: 0 would lie in the structure, which some ports refuse for data of no length, too.
        (
            offset_of!(SCSI_PASS_THROUGH, DataBufferOffset),
            size_of::<Buffer>(),
        ),
    ];
    let mut template = [0; size_of::<Buffer>()];
    let mut at = 0;
    while at < BYTES.len() {
        let (offset, value) = BYTES[at];
        assert!(value <= u8::MAX as usize);
        #[allow(clippy::cast_possible_truncation, reason = "just looked at")]
        let byte = value as u8;
        template[offset] = byte;
        at += 1;
    }
    template
};

/// The request's context: all that belongs to it.
struct Slot {
    request: WDFREQUEST,
    target: WDFIOTARGET,
    /// Over `buffer`.
    memory: WDFMEMORY,
    completion: PFN_WDF_REQUEST_COMPLETION_ROUTINE,
    /// The device's `ContextSpace`, of the type that `completion` knows.
    owner: *const (),
    /// Touched by whoever has the one `PassThrough`, `Prepared` or `Returned`, or by the framework while it is out.
    buffer: UnsafeCell<Buffer>,
}

// SAFETY: the framework's handles may be used on any thread; the buffer goes with the one owner.
unsafe impl Sync for Slot {}

context!(Slot);

/// The pass-through at rest. `'static` stands for "as long as the device".
pub struct PassThrough(&'static Slot);

impl PassThrough {
    /// Makes the device's pass-through, and all that sending it takes: no send has to allocate. `PASSIVE_LEVEL`.
    ///
    /// # Safety
    /// The completion routine may be called with the context that [`Returned::new`] takes for a device with a `C`.
    pub unsafe fn create<C: Context>(
        device: &Device<C>,
        completion: PFN_WDF_REQUEST_COMPLETION_ROUTINE,
    ) -> Result<Self, NtStatus> {
        // SAFETY: the device lives.
        let target = unsafe { call_unsafe!(WdfDeviceGetIoTarget, device.raw()) };
        let mut attributes = attributes(device.object());
        set_context::<Slot>(&mut attributes);
        let mut request = null_mut();
        // SAFETY: the target is the device's; the attributes are initialised.
        check(unsafe {
            call_unsafe!(
                WdfRequestCreate,
                &raw mut attributes,
                target,
                &raw mut request
            )
        })?;
        // SAFETY: the request was just made, and no pass-through is used when it is gone.
        let Some(space) = (unsafe { ContextSpace::<Slot>::of(request.cast()) }) else {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        };
        // SAFETY: the place is the request's context.
        let buffer = unsafe { &raw mut (*space.place()).buffer };
        let slot = Slot {
            request,
            target,
            memory: memory_over(device, buffer)?,
            completion,
            owner: ptr::from_ref(device.space()).cast(),
            buffer: UnsafeCell::default(),
        };
        // SAFETY: the place is empty, and nobody else knows the request.
        let this = Self(unsafe { space.fill(slot) });

        // SAFETY: the request lives and is not out.
        check(unsafe { call_unsafe!(WdfRequestAllocateTimer, request) })?;
        let format = this.format(Cdb::new(Command::Release, Form::Six), 0);
        check(format.0)?;
        Ok(this)
    }

    /// The right to cancel it when it is out.
    pub fn canceller(&self) -> Canceller {
        Canceller(self.0.request)
    }

    /// Fills and formats it for one send, with the seconds that the port gives the command. `PASSIVE_LEVEL`.
    pub fn prepare(self, cdb: Cdb, timeout: u32) -> Result<Prepared, (Self, NtStatus)> {
        let status = self.format(cdb, timeout);
        if status.is_success() {
            Ok(Prepared(self))
        } else {
            Err((self, status))
        }
    }

    fn fill(&self, cdb: Cdb, timeout: u32) {
        let buffer = self.0.buffer.get();
        // Its padding too, since the port gets all of it.
        // SAFETY: the buffer is ours, and as long as the template.
        unsafe { buffer.cast::<[u8; size_of::<Buffer>()]>().write(TEMPLATE) };
        // SAFETY: the buffer is ours and initialised.
        let header = unsafe { &mut (*buffer).header };
        header.CdbLength = cdb.length();
        header.TimeOutValue = timeout;
        header.Cdb[0] = cdb.operation_code();
    }

    /// The first error, or success. Formatting copies the buffer into the framework's own, which goes down, over all that the last answer left
    /// there; it clears the minor function; and a completion routine serves once. So each send does all of this.
    #[inline(never)]
    fn format(&self, cdb: Cdb, timeout: u32) -> NtStatus {
        self.fill(cdb, timeout);
        let slot = self.0;
        let mut reuse = WDF_REQUEST_REUSE_PARAMS {
            Size: size::<WDF_REQUEST_REUSE_PARAMS>(),
            Status: STATUS_UNSUCCESSFUL,
            ..WDF_REQUEST_REUSE_PARAMS::default()
        };
        // SAFETY: the request is not out.
        let status = unsafe { call_unsafe!(WdfRequestReuse, slot.request, &raw mut reuse) };
        if !wdk::nt_success(status) {
            return NtStatus(status);
        }
        // No offsets: all of the memory, both ways.
        // SAFETY: the request is not out, and the memory is its own.
        let status = unsafe {
            call_unsafe!(
                WdfIoTargetFormatRequestForIoctl,
                slot.target,
                slot.request,
                IOCTL_SCSI_PASS_THROUGH,
                slot.memory,
                null_mut(),
                slot.memory,
                null_mut()
            )
        };
        if !wdk::nt_success(status) {
            return NtStatus(status);
        }
        self.come_through_the_class_driver();
        let context: WDFCONTEXT = ptr::from_ref(slot).cast_mut().cast();
        // SAFETY: the slot is the request's own context, and the routine the one for its owner.
        unsafe {
            call_unsafe!(
                WdfRequestSetCompletionRoutine,
                slot.request,
                slot.completion,
                context
            );
        };
        NtStatus(status)
    }

    /// A port may refuse a pass-through that bypasses the class driver on a device that this has claimed, and tells
    /// by the minor function (Microsoft's page on `IOCTL_SCSI_PASS_THROUGH`).
    fn come_through_the_class_driver(&self) {
        #[allow(clippy::cast_possible_truncation, reason = "1")]
        const SCSI_CLASS: UCHAR = IRP_MN_SCSI_CLASS as UCHAR;
        // SAFETY: the request is not out.
        let irp = unsafe { call_unsafe!(WdfRequestWdmGetIrp, self.0.request) };
        // SAFETY: the IRP is the request's own.
        let current = unsafe { current_location(irp) };
        // IoGetNextIrpStackLocation
        // SAFETY: the request was made for this target, which has the next location.
        let next = unsafe { current.sub(1) };
        // SAFETY: as above, and nobody else writes there before the send.
        unsafe { (*next).MinorFunction = SCSI_CLASS };
    }
}

fn memory_over<C: Context>(
    device: &Device<C>,
    buffer: *mut UnsafeCell<Buffer>,
) -> Result<WDFMEMORY, NtStatus> {
    let mut attributes = attributes(device.object());
    let mut memory = null_mut();
    // SAFETY: the attributes are initialised; the buffer goes when the memory does, with the device.
    check(unsafe {
        call_unsafe!(
            WdfMemoryCreatePreallocated,
            &raw mut attributes,
            buffer.cast(),
            size_of::<Buffer>(),
            &raw mut memory
        )
    })?;
    Ok(memory)
}

/// After how long the framework cancels what was sent.
#[derive(Clone, Copy)]
pub struct SendTimeout(LONGLONG);

impl SendTimeout {
    /// `WDF_REL_TIMEOUT_IN_SEC`
    pub const fn seconds(seconds: u32) -> Self {
        Self(seconds as LONGLONG * -10_000_000)
    }
}

/// The pass-through, formatted for one send.
pub struct Prepared(PassThrough);

impl Prepared {
    /// Sends it, with the framework's own timeout; the completion routine may run before this returns. An error:
    /// it was not sent, and won't be answered. `PASSIVE_LEVEL`.
    pub fn send(self, timeout: SendTimeout) -> Result<(), (PassThrough, NtStatus)> {
        let slot = self.0.0;
        let mut options = WDF_REQUEST_SEND_OPTIONS {
            Size: size::<WDF_REQUEST_SEND_OPTIONS>(),
            Flags: _WDF_REQUEST_SEND_OPTIONS_FLAGS::WDF_REQUEST_SEND_OPTION_TIMEOUT as ULONG,
            Timeout: timeout.0,
        };
        // SAFETY: the request is formatted and has its completion routine.
        let sent =
            unsafe { call_unsafe!(WdfRequestSend, slot.request, slot.target, &raw mut options) };
        if sent != 0 {
            return Ok(());
        }
        // SAFETY: the request was not sent, so it is still ours.
        let status = unsafe { call_unsafe!(WdfRequestGetStatus, slot.request) };
        Err((self.0, NtStatus(status)))
    }

    /// Gives up sending it.
    pub fn into_idle(self) -> PassThrough {
        self.0
    }
}

/// The right to cancel the pass-through while it is out. Harmless when it is not: at most the next send is refused.
pub struct Canceller(WDFREQUEST);

// SAFETY: the framework's handles may be used on any thread, several at once.
unsafe impl Sync for Canceller {}

impl Canceller {
    /// Asks the port to give it back; the completion routine may run inside. No lock may be held.
    pub fn cancel(&self) {
        // SAFETY: the request lives as long as the device.
        let _says_nothing_of_whether_it_is_out =
            unsafe { call_unsafe!(WdfRequestCancelSentRequest, self.0) };
    }
}

/// The pass-through, back with its answer.
pub struct Returned {
    pass_through: PassThrough,
    status: NtStatus,
    information: usize,
}

impl Returned {
    /// What the completion routine was given: the pass-through, and the context space of its device.
    ///
    /// # Safety
    /// The arguments are those of the completion routine of a pass-through that was created for a device with a `C`.
    pub unsafe fn new<'a, C: Context>(
        params: PWDF_REQUEST_COMPLETION_PARAMS,
        context: WDFCONTEXT,
    ) -> (Self, &'a ContextSpace<C>) {
        // SAFETY: `format` gave the slot.
        let slot = unsafe { &*context.cast::<Slot>() };
        // SAFETY: `create` took the owner from a device of this context, which outlives its request.
        let owner = unsafe { &*slot.owner.cast::<ContextSpace<C>>() };
        // SAFETY: the framework gives live parameters.
        let io_status = unsafe { &(*params).IoStatus };
        // SAFETY: a completed IRP's block holds a status.
        let status = unsafe { io_status.__bindgen_anon_1.Status };
        let returned = Self {
            pass_through: PassThrough(slot),
            status: NtStatus(status),
            information: usize::try_from(io_status.Information).unwrap_or(0),
        };
        (returned, owner)
    }

    /// What came back.
    pub fn answer(&self) -> Answer<'_> {
        // SAFETY: the request is back, so that only we touch its buffer.
        let buffer = unsafe { &*self.pass_through.0.buffer.get() };
        let length = usize::from(buffer.header.SenseInfoLength);
        Answer {
            status: self.status,
            information: self.information,
            scsi_status: buffer.header.ScsiStatus,
            sense: buffer.sense.get(..length).unwrap_or(&buffer.sense),
        }
    }

    /// The pass-through, for the next send.
    pub fn into_idle(self) -> PassThrough {
        self.pass_through
    }
}
