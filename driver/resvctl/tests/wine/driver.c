/* A driver that loads and does nothing, in the place of resvflt.sys: Wine has no KMDF. It can be stopped, which stands for
 * the restart of Windows that ends a driver of the PnP manager's. */
#include <ddk/wdm.h>

static void WINAPI unload(DRIVER_OBJECT *driver)
{
    (void)driver;
}

NTSTATUS WINAPI DriverEntry(DRIVER_OBJECT *driver, UNICODE_STRING *path)
{
    (void)path;
    driver->DriverUnload = unload;
    return STATUS_SUCCESS;
}
