/* Old Wine (before 9) has no bcryptprimitives.dll, of which Rust's standard library wants this one function. Wine's own
   generator stands in for it. Nothing of this is in doorward.exe; Windows has the real one. */

#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID data, ULONG length);

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
    for (SIZE_T done = 0; done < length;) {
        ULONG part = length - done < 0x10000000 ? (ULONG)(length - done) : 0x10000000;
        if (!SystemFunction036(data + done, part))
            return FALSE;
        done += part;
    }
    return TRUE;
}
