/* A device whose requests wait, \\.\Pending, in the place of a disk that is busy: what examples/questions.rs asks of it. */
#include <ddk/wdm.h>

#define HOLD 0x222000    /* waits until it is released or cancelled */
#define RELEASE 0x222004 /* ends the oldest that waits */
#define BUSY 0x222008    /* a warning, at once */
#define REFUSE 0x22200C  /* an error, at once */
#define COUNT 0x222010   /* Information is how many wait */

static IRP *held[16];
static unsigned count;
static KSPIN_LOCK lock;

/* Takes one out of the list, or with NULL the oldest. */
static IRP *take(IRP *irp)
{
    IRP *found = NULL;
    KIRQL irql;
    KeAcquireSpinLock(&lock, &irql);
    for (unsigned i = 0; i < count; i++) {
        if (found)
            held[i - 1] = held[i];
        else if (!irp || held[i] == irp)
            found = held[i];
    }
    if (found)
        count--;
    KeReleaseSpinLock(&lock, irql);
    return found;
}

static NTSTATUS end(IRP *irp, NTSTATUS status, ULONG_PTR information)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

static void WINAPI cancel(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    IoReleaseCancelSpinLock(irp->CancelIrql);
    if (take(irp))
        end(irp, STATUS_CANCELLED, 0);
}

static NTSTATUS hold(IRP *irp)
{
    KIRQL irql;
    BOOLEAN full;
    KeAcquireSpinLock(&lock, &irql);
    full = count == sizeof(held) / sizeof(*held);
    if (!full) {
        IoMarkIrpPending(irp);
        held[count++] = irp;
        IoSetCancelRoutine(irp, cancel);
    }
    KeReleaseSpinLock(&lock, irql);
    return full ? end(irp, STATUS_INSUFFICIENT_RESOURCES, 0) : STATUS_PENDING;
}

static NTSTATUS WINAPI control(DEVICE_OBJECT *device, IRP *irp)
{
    IRP *oldest;
    (void)device;
    switch (IoGetCurrentIrpStackLocation(irp)->Parameters.DeviceIoControl.IoControlCode) {
    case HOLD:
        return hold(irp);
    case RELEASE:
        oldest = take(NULL);
        if (oldest) {
            IoSetCancelRoutine(oldest, NULL);
            end(oldest, STATUS_SUCCESS, 0);
        }
        return end(irp, STATUS_SUCCESS, 0);
    case BUSY:
        return end(irp, STATUS_DEVICE_BUSY, 0);
    case COUNT:
        return end(irp, STATUS_SUCCESS, count);
    default:
        return end(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
    }
}

static NTSTATUS WINAPI open(DEVICE_OBJECT *device, IRP *irp)
{
    (void)device;
    return end(irp, STATUS_SUCCESS, 0);
}

static UNICODE_STRING link;

static void WINAPI unload(DRIVER_OBJECT *driver)
{
    IoDeleteSymbolicLink(&link);
    IoDeleteDevice(driver->DeviceObject);
}

NTSTATUS WINAPI DriverEntry(DRIVER_OBJECT *driver, UNICODE_STRING *path)
{
    UNICODE_STRING name;
    DEVICE_OBJECT *device;
    NTSTATUS status;
    (void)path;
    KeInitializeSpinLock(&lock);
    RtlInitUnicodeString(&name, L"\\Device\\Pending");
    RtlInitUnicodeString(&link, L"\\??\\Pending");
    driver->MajorFunction[IRP_MJ_CREATE] = open;
    driver->MajorFunction[IRP_MJ_CLOSE] = open;
    driver->MajorFunction[IRP_MJ_CLEANUP] = open;
    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = control;
    driver->DriverUnload = unload;
    status = IoCreateDevice(driver, 0, &name, FILE_DEVICE_UNKNOWN, 0, FALSE, &device);
    return status ? status : IoCreateSymbolicLink(&link, &name);
}
