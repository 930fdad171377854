/* Gives Wine's only disk a device interface until standard input ends: the link that a PnP manager makes. Then tells what
 * RtlNtStatusToDosError makes of the statuses that are its further arguments. */
#include <windows.h>
#include <winternl.h>
#include <stdio.h>
#include <stdlib.h>

NTSTATUS NTAPI NtCreateSymbolicLinkObject(HANDLE *, ACCESS_MASK, OBJECT_ATTRIBUTES *, UNICODE_STRING *);

int wmain(int count, wchar_t **arguments)
{
    UNICODE_STRING name, target;
    OBJECT_ATTRIBUTES attributes;
    HANDLE link;
    RtlInitUnicodeString(&name, arguments[1]);
    RtlInitUnicodeString(&target, L"\\??\\PhysicalDrive0");
    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE, NULL, NULL);
    if (NtCreateSymbolicLinkObject(&link, 0xF0001 /* SYMBOLIC_LINK_ALL_ACCESS */, &attributes, &target))
        return 1;
    for (int i = 2; i < count; i++)
        printf("%lu ", RtlNtStatusToDosError(wcstoul(arguments[i], NULL, 16)));
    puts("");
    fflush(stdout);
    getchar();
    return 0;
}
