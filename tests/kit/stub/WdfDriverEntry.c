/* The image's entry for a KMDF client: binds to the framework's loader (WDFLDR.SYS), runs the driver's DriverEntry,
 * unbinds at unload or failure. Class extensions (WdfVersionBindClass) are not bound and the .kmdftypeinit section is
 * not walked: a driver that uses neither needs neither. */
#include "ntddk.h"
#include "wdf.h"

typedef struct _WDF_BIND_INFO {
    ULONG Size;
    PWCHAR Component;
    struct { ULONG Major, Minor, Build; } Version;
    ULONG FuncCount;
    PVOID FuncTable; /* from KMDF 1.15 on: address of the table pointer */
    PVOID Module;
} WDF_BIND_INFO;
typedef struct _WDF_BIND_INFO2 { /* what a client of KMDF 1.25 or later hands over */
    WDF_BIND_INFO V1;
    ULONG *MinimumVersionRequired;
    BOOLEAN *ClientVersionHigherThanFramework;
    ULONG *FuncCountPtr;
    ULONG *StructCountPtr;
    size_t **StructTable;
} WDF_BIND_INFO2;
_Static_assert(sizeof(WDF_BIND_INFO) == 48 && sizeof(WDF_BIND_INFO2) == 88, "bind info");
_Static_assert(__builtin_offsetof(DRIVER_OBJECT, DriverUnload) == 0x68, "DriverUnload");
_Static_assert(__builtin_offsetof(WDF_DRIVER_GLOBALS, DisplaceDriverUnload) == 48, "globals");

__declspec(dllimport) NTSTATUS WdfVersionBind(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath,
                                              WDF_BIND_INFO *Info, PWDF_DRIVER_GLOBALS *Globals);
__declspec(dllimport) NTSTATUS WdfVersionUnbind(PUNICODE_STRING RegistryPath, WDF_BIND_INFO *Info,
                                                PWDF_DRIVER_GLOBALS Globals);
DRIVER_INITIALIZE DriverEntry;

PWDF_DRIVER_GLOBALS WdfDriverGlobals;
const WDFFUNC *KIT_WDF_FUNCTIONS;
#define V1(size) {size, (PWCHAR)L"KmdfLibrary", {1, KMDF_VERSION_MINOR, 0}, \
                  WdfFunctionTableNumEntries, (PVOID)&KIT_WDF_FUNCTIONS, 0}
#if KMDF_VERSION_MINOR >= 25
ULONG WdfFunctionCount = WdfFunctionTableNumEntries;
static ULONG minimum_version = KMDF_VERSION_MINOR; /* never loads on an older framework */
static BOOLEAN client_is_newer;
static ULONG struct_count;
static size_t *struct_sizes;
static WDF_BIND_INFO2 bind_info2 = {V1(sizeof(WDF_BIND_INFO2)), &minimum_version, &client_is_newer,
                                    &WdfFunctionCount, &struct_count, &struct_sizes};
#define bind_info bind_info2.V1
#else
static WDF_BIND_INFO bind_info = V1(sizeof(WDF_BIND_INFO));
#endif

/* The caller's RegistryPath dies with DriverEntry; unbind needs a copy. */
static WCHAR path_chars[260];
static UNICODE_STRING path = {0, sizeof(path_chars), path_chars};
static PDRIVER_UNLOAD next_unload;

static VOID unbind(VOID) { WdfVersionUnbind(&path, &bind_info, WdfDriverGlobals); }

static VOID fx_unload(PDRIVER_OBJECT driver)
{
    if (next_unload)
        next_unload(driver);
    unbind();
}

NTSTATUS FxDriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING registry)
{
    NTSTATUS status;

    if (!driver) /* loaded as a library: nothing to bind */
        return DriverEntry(driver, registry);
    RtlCopyUnicodeString(&path, registry);
    status = WdfVersionBind(driver, &path, &bind_info, &WdfDriverGlobals);
    if (status < 0)
        return status;
    status = DriverEntry(driver, registry);
    if (status < 0) {
        unbind();
        return status;
    }
    if (WdfDriverGlobals->DisplaceDriverUnload) {
        next_unload = driver->DriverUnload;
        driver->DriverUnload = fx_unload;
    }
    return status;
}
