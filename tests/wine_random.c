/* For Wine before 9: the function of bcryptprimitives.dll that Rust's standard library asks for. Windows has it, and this file is never shipped. */
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE buffer, SIZE_T n) { return RtlGenRandom(buffer, (ULONG)n); }
