/* The resvflt status query: what this node last knew of its SCSI reservation of a disk.
 *
 * DeviceIoControl with IOCTL_RESVFLT_QUERY_STATE on a handle to the disk (\\.\PhysicalDriveN) that was opened with
 * GENERIC_READ; no input, a RESVFLT_STATE as output. A buffer that is too small gets nothing and
 * ERROR_INSUFFICIENT_BUFFER; a disk without the filter answers ERROR_INVALID_FUNCTION. */
#pragma once
#include <stdint.h>

/* CTL_CODE(0x8016, 0x816, METHOD_BUFFERED, FILE_READ_ACCESS) */
#define IOCTL_RESVFLT_QUERY_STATE 0x80166058u
#define RESVFLT_STATE_VERSION 1u

/* RESVFLT_STATE.Knowledge */
#define RESVFLT_UNKNOWN 0u
#define RESVFLT_HELD_BY_US 1u
#define RESVFLT_NOT_OURS 2u /* free, or another's */
#define RESVFLT_HELD_BY_ANOTHER 3u

/* RESVFLT_STATE.ScsiStatus and .SenseKey: there is none. */
#define RESVFLT_NONE 0xFFu

/* The counters begin when the filter attaches to the disk. */
typedef struct _RESVFLT_STATE {
    uint32_t Version;        /* RESVFLT_STATE_VERSION */
    uint32_t Size;           /* of this structure, in bytes */
    uint64_t Since;          /* since when Knowledge is so: interrupt time in 100 ns, as of QueryInterruptTimePrecise */
    uint32_t Knowledge;
    int32_t LastStatus;      /* NTSTATUS that the last finished request was completed with */
    uint8_t ScsiStatus;      /* of the last answer to the latest request */
    uint8_t SenseKey;        /* of that answer */
    uint8_t Asc;
    uint8_t Ascq;
    uint32_t CdbLength;      /* form of the commands that the next request begins with: 6 or 10 bytes */
    uint64_t Requests;       /* RESERVE and RELEASE requests that the filter began to serve */
    uint64_t Reserves;       /* RESERVE commands that the target executed */
    uint64_t Releases;       /* RELEASE commands that the target executed */
    uint64_t Conflicts;      /* commands answered RESERVATION CONFLICT */
    uint64_t Retries;        /* commands sent again after a delay */
    uint64_t UnitAttentions; /* reported to a command of the filter's, and so to nobody else */
    uint64_t Timeouts;       /* commands that ended without an answer in time */
    uint64_t Cancels;        /* requests that ended cancelled */
} RESVFLT_STATE;
