//! The framework: what KMDF 1.15 does with the calls that the driver makes, as `tests/rig/kmdf-behaviour.md` ("facts N" below) measured it on
//! Microsoft's own and as the sources of microsoft/Windows-Driver-Frameworks (src/framework/shared) tell it. A rule is
//! cited where it is kept; what breaks one stops the run.

mod calls;
mod device;
mod queue;
mod request;
mod timer;
mod work_item;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::abi::{
    Code, DRIVER_OBJECT, Handle, Status, WDF_BIND_INFO, WDF_DRIVER_CONFIG, WDF_DRIVER_GLOBALS,
    WDF_OBJECT_ATTRIBUTES, WDF_OBJECT_CONTEXT_TYPE_INFO, irql, status,
};
use crate::registry::Hive;
use crate::world::{self, World};
use crate::{etw, io, pool, rules};

pub use device::{DeviceInit, DiskKeys, Pnp, Power};

/// The framework as one client of it, one node's driver, sees it.
pub struct Framework {
    /// The node.
    pub node: Arc<str>,
    /// Where it runs.
    pub world: Arc<World>,
    /// The node's registry.
    pub hive: Hive,
    me: Weak<Framework>,
    objects: Mutex<BTreeMap<Handle, Arc<Object>>>,
    /// Parent and child, for each object that has a parent: nothing costs more because there are many devices.
    family: Mutex<BTreeSet<(Handle, Handle)>>,
    next_handle: AtomicU64,
    /// The claimed request that each IRP in a queue or in the driver stands for.
    by_irp: Mutex<HashMap<usize, Handle>>,
    /// Devices that were removed, and what was theirs.
    removed: Mutex<BTreeSet<Handle>>,
    /// Objects whose last reference went where they can't be destroyed, and which no thread has destroyed yet.
    disposing: AtomicUsize,
    client: Mutex<Client>,
}

struct Client {
    globals: *mut WDF_DRIVER_GLOBALS,
    driver_object: *mut DRIVER_OBJECT,
    service_key: String,
    driver: Option<Handle>,
    config: Option<WDF_DRIVER_CONFIG>,
    table: Vec<Code>,
}

// SAFETY: addresses of the node's own memory, used only under the mutex that holds them.
unsafe impl Send for Client {}

/// A framework object.
pub struct Object {
    handle: Handle,
    parent: Option<Handle>,
    body: Body,
    cleanup: Code,
    destroy: Code,
    contexts: Mutex<Vec<(*const WDF_OBJECT_CONTEXT_TYPE_INFO, *mut u8)>>,
    /// One until it is deleted, and those that the driver took.
    references: AtomicUsize,
    /// Its EvtCleanupCallback was called.
    clean: AtomicBool,
    /// Its cleanup is over: nothing is left but its memory, for as long as it is referenced.
    deleted: AtomicBool,
}

// SAFETY: what the addresses stand for is the driver's memory; the rig touches it as the framework would.
unsafe impl Send for Object {}
// SAFETY: as above.
unsafe impl Sync for Object {}

enum Body {
    Driver,
    Device(device::Device),
    Queue(queue::Queue),
    Claimed(request::Claimed),
    Created(request::Created),
    Target(request::Target),
    Memory { address: *mut u8, size: usize },
    SpinLock(Mutex<Option<(world::ThreadId, u8)>>),
    Timer(timer::Timer),
    WorkItem(work_item::WorkItem),
    Key(String),
}

impl Body {
    fn kind(&self) -> &'static str {
        match self {
            Self::Driver => "WDFDRIVER",
            Self::Device(_) => "WDFDEVICE",
            Self::Queue(_) => "WDFQUEUE",
            Self::Claimed(_) => "WDFREQUEST from a queue",
            Self::Created(_) => "WDFREQUEST of the driver's own",
            Self::Target(_) => "WDFIOTARGET",
            Self::Memory { .. } => "WDFMEMORY",
            Self::SpinLock(_) => "WDFSPINLOCK",
            Self::Timer(_) => "WDFTIMER",
            Self::WorkItem(_) => "WDFWORKITEM",
            Self::Key(_) => "WDFKEY",
        }
    }
}

/// Takes a mutex whose holder can't have died: a rule that is broken ends the process.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a handle's object as the body that is asked for; a handle of another kind breaks [`rules::HANDLE`].
macro_rules! body {
    ($fx:expr, $handle:expr, $kind:ident) => {{
        let object = $fx.object($handle, stringify!($kind));
        match &object.body {
            Body::$kind(_) => {}
            other => $fx.wrong_kind($handle, other, stringify!($kind)),
        }
        object
    }};
}
/// The body of an object that is known to be of this kind.
macro_rules! of {
    ($object:expr, $kind:ident) => {
        match &$object.body {
            Body::$kind(body) => body,
            _ => unreachable!(),
        }
    };
}
pub(crate) use {body, of};

/// What an object's attributes may name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Allowed {
    Parent,
    Level,
    Scope,
}

impl Framework {
    /// The framework of a node, before a client binds to it.
    pub fn new(node: &str, world: &Arc<World>, hive: Hive) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            node: node.into(),
            world: Arc::clone(world),
            hive,
            me: Weak::clone(me),
            objects: Mutex::default(),
            family: Mutex::default(),
            // Not canonical: a handle that is used as an address faults.
            next_handle: AtomicU64::new(0x7D00_0000_0000_0010),
            by_irp: Mutex::default(),
            removed: Mutex::default(),
            disposing: AtomicUsize::new(0),
            client: Mutex::new(Client {
                globals: std::ptr::null_mut(),
                driver_object: std::ptr::null_mut(),
                service_key: String::new(),
                driver: None,
                config: None,
                table: Vec::new(),
            }),
        })
    }

    fn me(&self) -> Arc<Self> {
        self.me
            .upgrade()
            .unwrap_or_else(|| unreachable!("a framework lives while it is used"))
    }

    /// WdfVersionBind: gives the client its globals and the function table.
    pub fn bind(
        &self,
        driver_object: *mut DRIVER_OBJECT,
        registry_path: String,
        info: &mut WDF_BIND_INFO,
        globals: &mut *mut WDF_DRIVER_GLOBALS,
    ) -> Status {
        let right = (info.Size as usize, info.Major, info.Minor, info.FuncCount)
            == (size_of::<WDF_BIND_INFO>(), 1, 15, calls::TABLE_ENTRIES);
        if !right || info.FuncTable.is_null() {
            let found = format!(
                "WDF_BIND_INFO: size {}, version {}.{}, {} functions",
                info.Size, info.Major, info.Minor, info.FuncCount
            );
            rules::broken(&rules::STRUCTURE_SIZE, &found);
        }
        let mut client = lock(&self.client);
        client.table = calls::table();
        client.driver_object = driver_object;
        client.service_key = registry_path;
        let size = size_of::<WDF_DRIVER_GLOBALS>() + size_of::<*const Self>();
        client.globals = pool::allocate(&self.node, "WDF_DRIVER_GLOBALS", size).cast();
        // SAFETY: the block has room for the globals and for one pointer behind them.
        unsafe {
            client
                .globals
                .add(1)
                .cast::<*const Self>()
                .write(std::ptr::from_ref(self));
        };
        // SAFETY: the block is the client's globals, and FuncTable the address of its table pointer.
        unsafe {
            (*client.globals).DisplaceDriverUnload = 1;
            *info.FuncTable = client.table.as_ptr();
        }
        *globals = client.globals;
        status::SUCCESS
    }

    /// WdfVersionUnbind.
    pub fn unbind(&self) {
        // FxDriver::Dispose waits for its dispose list (fxdriver.cpp).
        world::current().wait(self.disposing_key(), || {
            self.disposing.load(Ordering::SeqCst) == 0
        });
        etw::expect_unregistered(&self.node);
        let (driver, globals) = {
            let mut client = lock(&self.client);
            (
                client.driver.take(),
                std::mem::replace(&mut client.globals, std::ptr::null_mut()),
            )
        };
        if let Some(driver) = driver {
            self.expect_keys_closed(driver);
            self.delete(driver);
        }
        if !globals.is_null() {
            pool::free(globals.cast());
        }
    }

    /// A key that is never closed goes with its parent, the driver: until then each one that is opened is one more.
    fn expect_keys_closed(&self, driver: Handle) {
        let children = self.children(driver);
        let open = children.iter().find_map(|child| match &child.body {
            Body::Key(path) => Some(path),
            _ => None,
        });
        if let Some(path) = open {
            rules::broken(&rules::OBJECT_LEAK, &format!("WDFKEY of {path}"));
        }
    }

    /// The framework that a client's globals belong to.
    pub(crate) fn of(globals: *const WDF_DRIVER_GLOBALS) -> Arc<Self> {
        // SAFETY: `bind` put the pointer there; a client hands back what it got, else the read faults.
        let fx = unsafe { globals.add(1).cast::<*const Self>().read() };
        // SAFETY: the framework outlives its client.
        unsafe { (*fx).me() }
    }

    fn object(&self, handle: Handle, wanted: &str) -> Arc<Object> {
        self.find(handle, wanted, |object| {
            !object.deleted.load(Ordering::SeqCst)
        })
    }

    /// As [`Framework::object`]; also one that is deleted and still referenced.
    fn memory_of(&self, handle: Handle, wanted: &str) -> Arc<Object> {
        self.find(handle, wanted, |_| true)
    }

    fn find(&self, handle: Handle, wanted: &str, fits: impl Fn(&Object) -> bool) -> Arc<Object> {
        lock(&self.objects)
            .get(&handle)
            .filter(|object| fits(object))
            .cloned()
            .unwrap_or_else(|| {
                let removed = lock(&self.removed).contains(&handle);
                let (rule, found) = if removed {
                    (&rules::CALL_AFTER_REMOVAL, "deleted with its device")
                } else {
                    (&rules::HANDLE, "deleted, or never given")
                };
                rules::broken(
                    rule,
                    &format!("handle {handle:#x}, wanted {wanted}: {found}"),
                )
            })
    }

    fn wrong_kind(&self, handle: Handle, found: &Body, wanted: &str) -> ! {
        let rule = match (found, wanted) {
            (Body::Created(_), "Claimed") => &rules::NOT_DRIVER_OWNED,
            _ => &rules::HANDLE,
        };
        let node = &self.node;
        rules::broken(
            rule,
            &format!(
                "handle {handle:#x} (node {node}) is a {}, wanted {wanted}",
                found.kind()
            ),
        )
    }

    /// Makes an object; its parent is that of the attributes, else `parent`.
    fn create(
        &self,
        body: Body,
        attributes: *const WDF_OBJECT_ATTRIBUTES,
        parent: Option<Handle>,
    ) -> Handle {
        let handle = self.next_handle.fetch_add(16, Ordering::Relaxed);
        // SAFETY: null, or attributes of the caller's that `checked_attributes` has looked at.
        let attributes = unsafe { attributes.as_ref() };
        let parent = attributes
            .map(|a| a.ParentObject)
            .filter(|&parent| parent != 0)
            .or(parent);
        if let Some(parent) = parent {
            self.object(parent, "a parent");
        }
        let object = Object {
            handle,
            parent,
            body,
            cleanup: attributes.map_or(std::ptr::null(), |a| a.EvtCleanupCallback),
            destroy: attributes.map_or(std::ptr::null(), |a| a.EvtDestroyCallback),
            contexts: Mutex::default(),
            references: AtomicUsize::new(1),
            clean: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
        };
        if let Some(info) = attributes
            .map(|a| a.ContextTypeInfo)
            .filter(|info| !info.is_null())
        {
            // SAFETY: a context type of the client's, a static.
            let (unique, size) = unsafe { ((*info).UniqueType, (*info).ContextSize) };
            lock(&object.contexts)
                .push((unique, pool::allocate(&self.node, "object context", size)));
        }
        lock(&self.objects).insert(handle, Arc::new(object));
        if let Some(parent) = parent {
            lock(&self.family).insert((parent, handle));
        }
        handle
    }

    /// WDF_OBJECT_ATTRIBUTES as FxValidateObjectAttributes (fxvalidatefunctions.cpp) looks at them for an object that
    /// may be given what `allowed` names.
    fn checked_attributes(
        attributes: *const WDF_OBJECT_ATTRIBUTES,
        allowed: &[Allowed],
    ) -> Result<(), Status> {
        const INHERIT: u32 = 1;
        const LAST_LEVEL: u32 = 3; // WdfExecutionLevelDispatch
        const LAST_SCOPE: u32 = 4; // WdfSynchronizationScopeNone
        // SAFETY: null or the caller's structure.
        let Some(a) = (unsafe { attributes.as_ref() }) else {
            return Ok(());
        };
        let may = |what| allowed.contains(&what);
        let (level, scope) = (a.ExecutionLevel, a.SynchronizationScope);
        match () {
            () if a.Size as usize != size_of_val(a) => Err(status::INFO_LENGTH_MISMATCH),
            () if a.ParentObject != 0 && !may(Allowed::Parent) => {
                Err(status::WDF_PARENT_ASSIGNMENT_NOT_ALLOWED)
            }
            () if !(INHERIT..=LAST_LEVEL).contains(&level)
                || !(INHERIT..=LAST_SCOPE).contains(&scope) =>
            {
                Err(status::WDF_OBJECT_ATTRIBUTES_INVALID)
            }
            () if ![INHERIT, LAST_SCOPE].contains(&scope) && !may(Allowed::Scope) => {
                Err(status::WDF_SYNCHRONIZATION_SCOPE_INVALID)
            }
            () if level != INHERIT && !may(Allowed::Level) => {
                Err(status::WDF_EXECUTION_LEVEL_INVALID)
            }
            () => Ok(()),
        }
    }

    /// WdfObjectGetTypedContextWorker.
    fn context(&self, handle: Handle, info: *const WDF_OBJECT_CONTEXT_TYPE_INFO) -> *mut u8 {
        let object = self.memory_of(handle, "an object with a context");
        // SAFETY: a context type of the client's, a static.
        let unique = unsafe { (*info).UniqueType };
        lock(&object.contexts)
            .iter()
            .find(|(kind, _)| *kind == unique)
            .map_or(std::ptr::null_mut(), |&(_, block)| block)
    }

    fn children(&self, parent: Handle) -> Vec<Arc<Object>> {
        let children: Vec<_> = lock(&self.family)
            .range((parent, 0)..=(parent, Handle::MAX))
            .map(|&(_, child)| child)
            .collect();
        let objects = lock(&self.objects);
        let objects = children.iter().filter_map(|child| objects.get(child));
        objects.cloned().collect()
    }

    /// Deletes an object and what hangs on it: all cleanup callbacks, then all destroy callbacks (facts 19), but for those of
    /// objects that the driver has referenced. No object has a reference on its parent or on a child of its own.
    fn delete(&self, handle: Handle) {
        self.delete_all([handle]);
    }

    /// As [`Framework::delete`], of several that go together: while one waits for a callback to end, that may still use the
    /// others.
    fn delete_all(&self, handles: impl IntoIterator<Item = Handle>) {
        let mut tree = Vec::new();
        for handle in handles {
            self.collect(handle, &mut tree);
        }
        for object in &tree {
            Self::dispose(object);
            self.clean_up(object);
        }
        for object in &tree {
            if let Some(parent) = object.parent {
                lock(&self.family).remove(&(parent, object.handle));
            }
            object.deleted.store(true, Ordering::SeqCst);
            self.release(object);
        }
    }

    /// Calls an object's EvtCleanupCallback, once.
    fn clean_up(&self, object: &Object) {
        if !object.clean.swap(true, Ordering::SeqCst) {
            self.callback(object.cleanup, object.handle, "EvtCleanupCallback");
        }
    }

    /// A reference goes, and with the last one the object. One that is destroyed at PASSIVE_LEVEL alone waits for a thread of
    /// the framework's (fxobject.cpp FxObject::FinalRelease; of the kinds that are so, fxdevicebase.cpp).
    fn release(&self, object: &Arc<Object>) {
        if object.references.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        let passive = matches!(object.body, Body::Device(_));
        if !passive || world::current().irql() == irql::PASSIVE {
            return self.destroy(object);
        }
        self.disposing.fetch_add(1, Ordering::SeqCst);
        let (fx, object) = (self.me(), Arc::clone(object));
        let job = move || {
            fx.destroy(&object);
            fx.disposing.fetch_sub(1, Ordering::SeqCst);
            fx.world.wake(fx.disposing_key());
        };
        self.world
            .spawn("dispose list", irql::PASSIVE, Box::new(job));
    }

    fn destroy(&self, object: &Object) {
        self.callback(object.destroy, object.handle, "EvtDestroyCallback");
        lock(&self.objects).remove(&object.handle);
        for (_, block) in lock(&object.contexts).drain(..) {
            pool::free(block);
        }
    }

    fn disposing_key(&self) -> usize {
        (&raw const self.disposing) as usize
    }

    /// WdfObjectReferenceActual.
    fn reference(&self, handle: Handle) {
        let object = self.memory_of(handle, "an object");
        object.references.fetch_add(1, Ordering::SeqCst);
    }

    /// WdfObjectDereferenceActual.
    fn dereference(&self, handle: Handle) {
        let object = self.memory_of(handle, "an object");
        let own = usize::from(!object.deleted.load(Ordering::SeqCst));
        if object.references.load(Ordering::SeqCst) <= own {
            let found = format!("{} {handle:#x} was not referenced", object.body.kind());
            rules::broken(&rules::HANDLE, &found);
        }
        self.release(&object);
    }

    /// A device's removal begins to delete it and what is below it.
    fn note_removed(&self, device: Handle) {
        let mut tree = Vec::new();
        self.collect(device, &mut tree);
        lock(&self.removed).extend(tree.iter().map(|object| object.handle));
    }

    fn collect(&self, handle: Handle, tree: &mut Vec<Arc<Object>>) {
        for child in self.children(handle) {
            self.collect(child.handle, tree);
        }
        if let Some(object) = lock(&self.objects).get(&handle) {
            tree.push(Arc::clone(object));
        }
    }

    fn dispose(object: &Object) {
        match &object.body {
            Body::Created(request) => request.dispose(),
            Body::Timer(timer) => timer.dispose(),
            Body::WorkItem(item) => item.dispose(),
            _ => {}
        }
    }

    /// Calls a `VOID (WDFxxx)` callback, if there is one.
    fn callback(&self, code: Code, handle: Handle, name: &'static str) {
        if code.is_null() {
            return;
        }
        // SAFETY: the callbacks that come here take one handle and give nothing.
        let routine =
            unsafe { std::mem::transmute::<Code, unsafe extern "win64" fn(Handle)>(code) };
        // SAFETY: called as the framework calls it.
        self.call_driver(name, || unsafe { routine(handle) });
    }

    /// Runs the driver's code at the IRQL there is.
    fn call_driver<R>(&self, what: &'static str, f: impl FnOnce() -> R) -> R {
        let thread = world::current();
        let before = thread.set_node(Arc::clone(&self.node));
        let result = thread.into_driver(what, f);
        thread.set_node(before);
        result
    }

    /// Calls EvtDriverUnload, as the displaced unload routine does first.
    pub fn unload(&self) {
        let config = lock(&self.client).config;
        let driver = lock(&self.client).driver;
        if let (Some(config), Some(driver)) = (config, driver) {
            self.callback(config.EvtDriverUnload, driver, "EvtDriverUnload");
        }
    }

    /// Objects that are still there, by kind.
    pub fn live_objects(&self) -> Vec<String> {
        lock(&self.objects)
            .values()
            .map(|o| {
                let deleted = o.deleted.load(Ordering::SeqCst);
                let referenced = if deleted { ", referenced" } else { "" };
                format!("{} {:#x}{referenced}", o.body.kind(), o.handle)
            })
            .collect()
    }

    /// True if the next allocation is to fail.
    fn allocation_fails(&self, what: &'static str) -> bool {
        self.world.allocation_fails(what)
    }
}

/// Enters a call of the client's: its IRQL is checked, and the points before and after it are passed.
fn serve<R>(
    globals: *const WDF_DRIVER_GLOBALS,
    call: &'static str,
    max_irql: u8,
    f: impl FnOnce(&Arc<Framework>) -> R,
) -> R {
    let fx = Framework::of(globals);
    let thread = world::current();
    thread.in_call(&fx.node, call, || {
        if thread.irql() > max_irql {
            let found = format!("{call} at IRQL {}, allowed up to {max_irql}", thread.irql());
            rules::broken(&rules::IRQL_TOO_HIGH, &found);
        }
        f(&fx)
    })
}

/// A device extension of the framework's: which framework and which device.
struct Extension {
    fx: Weak<Framework>,
    device: Handle,
}

/// The dispatch routine of every device that the framework makes.
///
/// # Safety
/// Called by IoCallDriver with a live device of the framework's and an IRP that it owns.
pub unsafe extern "win64" fn dispatch(
    device: *mut crate::abi::DEVICE_OBJECT,
    irp: *mut crate::abi::IRP,
) -> Status {
    // SAFETY: the extension of the framework's devices.
    let extension = unsafe { (*device).DeviceExtension.cast::<Extension>() };
    // SAFETY: it lives as long as the device.
    let (fx, handle) = unsafe { ((*extension).fx.upgrade(), (*extension).device) };
    let Some(fx) = fx else {
        // SAFETY: the IRP is the dispatch routine's.
        unsafe { (*irp).IoStatus.Anonymous.Status = status::NO_SUCH_DEVICE };
        io::complete_request(irp);
        return status::NO_SUCH_DEVICE;
    };
    fx.dispatch(handle, irp)
}

/// A context pointer for an IRP completion routine.
fn context_of(handle: Handle) -> *mut c_void {
    handle as *mut c_void
}
