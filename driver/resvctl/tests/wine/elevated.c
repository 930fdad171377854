// Runs the command line behind its own name with an administrator's full token, and ends as it ends. Newer Wines start
// programs with the limited half of a split token, as Windows does for an administrator under UAC; older ones know only
// full tokens. Which of the two this is, the token says: `elevated` alone ends with 1 where it is the full one.
#include <windows.h>

static HANDLE token(void)
{
    HANDLE own = NULL;
    OpenProcessToken(GetCurrentProcess(), TOKEN_ALL_ACCESS, &own);
    return own;
}

static BOOL is_full(HANDLE own)
{
    TOKEN_ELEVATION elevation = {0};
    DWORD length;
    return GetTokenInformation(own, TokenElevation, &elevation, sizeof(elevation), &length) && elevation.TokenIsElevated;
}

int wmain(int count, wchar_t **arguments)
{
    STARTUPINFOW start = {.cb = sizeof(start)};
    PROCESS_INFORMATION process;
    TOKEN_LINKED_TOKEN linked;
    HANDLE own = token(), full = own;
    DWORD length, code = 255;
    wchar_t *line = GetCommandLineW();

    if (count < 2)
        return is_full(own);
    if (!is_full(own)) {
        if (!GetTokenInformation(own, TokenLinkedToken, &linked, sizeof(linked), &length)
            || !DuplicateTokenEx(linked.LinkedToken, TOKEN_ALL_ACCESS, NULL, SecurityImpersonation, TokenPrimary, &full))
            return 254;
    }
    // This program's own name holds no spaces, or is quoted.
    line = wcschr(*line == L'"' ? wcschr(line + 1, L'"') : line, L' ');
    if (!CreateProcessAsUserW(full, NULL, line + 1, NULL, NULL, TRUE, 0, NULL, NULL, &start, &process))
        return 253;
    WaitForSingleObject(process.hProcess, INFINITE);
    GetExitCodeProcess(process.hProcess, &code);
    return (int)code;
}
