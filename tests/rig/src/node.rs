//! A node: its own copy of the driver, its registry, its disks; and what a caller above the stack can do to them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{DEVICE_OBJECT, DRIVER_OBJECT, Status, UNICODE_STRING, major, status};
use crate::disk::Disk;
use crate::fx::{DiskKeys, Framework, Pnp, Power};
use crate::image::{Image, LoadError};
use crate::io::{self, Call, Completion, Pending};
use crate::port::Port;
use crate::registry::Hive;
use crate::world::{self, World};
use crate::{exports, fx, image, pool, rules};

/// The driver's service key.
pub const SERVICE_KEY: &str = r"\Registry\Machine\System\CurrentControlSet\Services\resvflt";

static LOADED: AtomicU64 = AtomicU64::new(1);

/// Why a node did not come up.
#[derive(Debug)]
pub enum NodeError {
    /// The image could not be mapped.
    Load(LoadError),
    /// Its entry point returned this.
    Entry(Status),
}

impl std::fmt::Display for NodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Load(error) => error.fmt(f),
            Self::Entry(status) => write!(f, "DriverEntry returned {status:#010x}"),
        }
    }
}

impl std::error::Error for NodeError {}

impl From<LoadError> for NodeError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

/// A machine with the driver loaded.
pub struct Node {
    name: Arc<str>,
    framework: Arc<Framework>,
    driver: *mut DRIVER_OBJECT,
    world: Arc<World>,
    // Last: the code goes after everything that may run it.
    _image: Image,
}

// SAFETY: the driver object is used as Windows would, from any thread.
unsafe impl Send for Node {}
// SAFETY: as above.
unsafe impl Sync for Node {}

/// One disk's stack on a node.
pub struct Stack {
    /// The device below the filter.
    pub port: Arc<Port>,
    filter: Option<*mut DEVICE_OBJECT>,
}

// SAFETY: addresses of live devices, used as Windows would.
unsafe impl Send for Stack {}
// SAFETY: as above.
unsafe impl Sync for Stack {}

impl Stack {
    /// True if the driver attached itself.
    pub fn is_filtered(&self) -> bool {
        self.filter.is_some()
    }

    /// The driver's device, if it attached itself.
    pub fn filter(&self) -> Option<*mut DEVICE_OBJECT> {
        self.filter
    }

    /// The device that callers address.
    pub fn top(&self) -> *mut DEVICE_OBJECT {
        io::top_of(self.port.device())
    }
}

impl Node {
    /// Loads `file` on a new node of `world`: maps it, binds it, calls its entry point.
    ///
    /// # Errors
    /// The file is not loadable, or the driver refused.
    pub fn load(
        world: &Arc<World>,
        name: &str,
        file: &Path,
        hive: Hive,
    ) -> Result<Self, NodeError> {
        Self::load_bytes(world, name, file, &image::read(file)?, hive)
    }

    /// As [`Node::load`], from bytes that were read before.
    ///
    /// # Errors
    /// The bytes are not loadable, or the driver refused.
    pub fn load_bytes(
        world: &Arc<World>,
        name: &str,
        file: &Path,
        bytes: &[u8],
        hive: Hive,
    ) -> Result<Self, NodeError> {
        // Leaks are told by node, and several may run in one process, one after the other or at once.
        let number = LOADED.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}#{number}");
        let name = name.as_str();
        let image = Image::map(file, bytes, name, &exports::find)?;
        let framework = Framework::new(name, world, hive);
        let driver = io::create_driver(name, fx::dispatch);
        // SAFETY: the driver object was just made.
        let fields = unsafe { &mut *driver };
        fields.DriverStart = image.base() as *mut _;
        fields.DriverSize = u32::try_from(image.size()).unwrap_or(u32::MAX);
        fields.DriverSection = Arc::as_ptr(&framework).cast_mut().cast();
        let mut units: Vec<u16> = SERVICE_KEY.encode_utf16().collect();
        let length = u16::try_from(units.len() * 2).unwrap_or(u16::MAX);
        let mut path = UNICODE_STRING {
            Length: length,
            MaximumLength: length,
            Buffer: units.as_mut_ptr(),
        };
        let entry = image.entry();
        let thread = world::current();
        let outer = thread.set_node(name.into());
        // SAFETY: called as the loader calls it.
        let result = thread.into_driver("DriverEntry", || unsafe { entry(driver, &raw mut path) });
        thread.set_node(outer);
        let node = Self {
            name: name.into(),
            framework,
            driver,
            world: Arc::clone(world),
            _image: image,
        };
        if status::is_success(result) {
            return Ok(node);
        }
        node.check_leaks();
        Err(NodeError::Entry(result))
    }

    /// Its name, with a number that no other node of the process has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its framework.
    pub fn framework(&self) -> &Arc<Framework> {
        &self.framework
    }

    /// Plugs a disk in: the stack is built, the driver asked to attach, the device started.
    ///
    /// # Errors
    /// What EvtDriverDeviceAdd returned, where that keeps the disk from starting.
    pub fn plug(&self, disk: Arc<dyn Disk>, keys: &DiskKeys) -> Result<Stack, Status> {
        let stack = self.add(disk, keys)?;
        self.pnp(&stack, Pnp::Start);
        Ok(stack)
    }

    /// As [`Node::plug`], but the device is not started.
    ///
    /// # Errors
    /// As [`Node::plug`].
    pub fn add(&self, disk: Arc<dyn Disk>, keys: &DiskKeys) -> Result<Stack, Status> {
        let port = self.port(disk);
        let bottom = port.device();
        self.attach(port, bottom, keys)
    }

    /// A port with this disk, and no driver above it.
    pub fn port(&self, disk: Arc<dyn Disk>) -> Arc<Port> {
        Port::new(&self.name, &self.world, disk)
    }

    /// Asks the driver to attach to `lower`, the top of the port's stack.
    ///
    /// # Errors
    /// As [`Node::plug`].
    pub fn attach(
        &self,
        port: Arc<Port>,
        lower: *mut DEVICE_OBJECT,
        keys: &DiskKeys,
    ) -> Result<Stack, Status> {
        let filter = self.framework.add_device(lower, port.device(), keys)?;
        Ok(Stack { port, filter })
    }

    /// Sends a PnP request down the stack, and waits for it.
    pub fn pnp(&self, stack: &Stack, minor: Pnp) -> Completion {
        self.call(stack, &Call::major(major::IRP_MJ_PNP as u8, minor as u8))
    }

    /// Sends IRP_MN_SET_POWER for a device power state down the stack, and waits for it.
    pub fn power(&self, stack: &Stack, state: Power) -> Completion {
        // Parameters.Power: Type is DevicePowerState (1), State follows.
        let call = Call {
            ioctl: state as u32,
            input_length: Some(1),
            ..Call::major(major::IRP_MJ_POWER as u8, 2)
        };
        self.call(stack, &call)
    }

    /// Removes the disk in an orderly way.
    pub fn unplug(&self, stack: Stack) -> Arc<Port> {
        self.pnp(&stack, Pnp::QueryRemove);
        self.pnp(&stack, Pnp::Remove);
        stack.port
    }

    /// Sends a request and waits for its end.
    pub fn call(&self, stack: &Stack, call: &Call) -> Completion {
        self.start(stack, call).wait()
    }

    /// Sends a request; the caller waits for it later.
    pub fn start(&self, stack: &Stack, call: &Call) -> Arc<Pending> {
        self.start_noting(stack, call, |_| {})
    }

    /// As [`Node::start`]; `note` is told of the request before it is sent, so that another thread can cancel it.
    pub fn start_noting(
        &self,
        stack: &Stack,
        call: &Call,
        note: impl FnOnce(&Arc<Pending>),
    ) -> Arc<Pending> {
        self.start_at(stack.top(), call, note)
    }

    /// As [`Node::start_noting`], to a device anywhere in a stack.
    pub fn start_at(
        &self,
        device: *mut DEVICE_OBJECT,
        call: &Call,
        note: impl FnOnce(&Arc<Pending>),
    ) -> Arc<Pending> {
        let (irp, pending) = io::build(&self.name, device, call);
        note(&pending);
        io::send(device, irp, &pending, call.irql);
        pending
    }

    /// As [`Node::call`], and gives the caller's buffer as it is at the end, too.
    pub fn call_with_buffer(&self, stack: &Stack, call: &Call) -> (Completion, Vec<u8>) {
        let pending = self.start(stack, call);
        (pending.wait(), pending.buffer())
    }

    /// Unloads the driver and checks that nothing of it is left.
    pub fn unload(self) {
        // SAFETY: a live driver object; the image's stub has put its routine there.
        if let Some(unload) = unsafe { (*self.driver).DriverUnload } {
            // SAFETY: code of the image, in its own convention.
            let unload: unsafe extern "win64" fn(*mut DRIVER_OBJECT) =
                unsafe { std::mem::transmute(unload) };
            let thread = world::current();
            let outer = thread.set_node(Arc::clone(&self.name));
            // SAFETY: called as the I/O manager calls it.
            thread.into_driver("DriverUnload", || unsafe { unload(self.driver) });
            thread.set_node(outer);
        }
        self.check_leaks();
    }

    fn check_leaks(&self) {
        pool::free(self.driver.cast());
        let objects = self.framework.live_objects();
        if !objects.is_empty() {
            rules::broken(
                &rules::OBJECT_LEAK,
                &format!("node {}: {}", self.name, objects.join(", ")),
            );
        }
        let blocks = pool::live(&self.name);
        if !blocks.is_empty() {
            rules::broken(
                &rules::POOL_LEAK,
                &format!("node {}: {}", self.name, blocks.join(", ")),
            );
        }
    }
}
