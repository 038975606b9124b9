#!/usr/bin/env python3
"""stand_in.py CUDARC_SOURCE OUTPUT_FOLDER: stand-ins for the functions of NVIDIA's libraries that cudarc declares, for x86-64.

Writes symbols.S, a jump through a slot per function, and symbols.h, their names. A slot begins with what the function answers while its library is
absent, and is filled by stand_in.c. So the plugin is linked without any of the libraries, and loads where there are none.
"""

import re
import sys
from pathlib import Path

# cudarc's folder, and what the functions answer without a library: see stand_in.c. The number of a library is its place here.
LIBRARIES = [
    ("driver", "cu[A-Z]", "inf_no_driver"),
    ("cublas", "cublas", "inf_no_cublas"),
    ("cublaslt", "cublas", "inf_no_cublas"),
    ("curand", "curand", "inf_no_curand"),
    ("nvrtc", "nvrtc", "inf_no_nvrtc"),
]

# Candle makes a handle of cuBLAS and a generator of cuRAND for every device, whether it needs them or not: it gets one that nobody looks at.
ANSWERS = {
    "cuGetErrorString": "inf_error_text",
    "cuGetErrorName": "inf_error_text",
    "cublasCreate_v2": "inf_make_handle",
    "curandCreateGenerator": "inf_make_handle",
} | dict.fromkeys(
    [
        "cublasDestroy_v2", "cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasSetPointerMode_v2", "cublasSetMathMode",
        "curandDestroyGenerator", "curandSetStream", "curandSetPseudoRandomGeneratorSeed", "curandSetGeneratorOffset",
    ],
    "inf_done",
)


def declared(cudarc, folder, prefix):
    text = (cudarc / "src" / folder / "sys" / "mod.rs").read_text()
    return sorted(set(re.findall(rf"pub (?:unsafe )?fn ({prefix}\w+)", text)))


def main(cudarc, output):
    rows = [(i, name, ANSWERS.get(name, absent)) for i, (folder, prefix, absent) in enumerate(LIBRARIES) for name in declared(cudarc, folder, prefix)]
    assert len(rows) > 500, "cudarc declares its functions in another way"
    with open(output / "symbols.S", "w") as out:
        out.write(".text\n")
        for slot, (_, name, _) in enumerate(rows):
            out.write(f".globl {name}\n.hidden {name}\n.type {name}, @function\n{name}: endbr64; jmp *inf_slots+{8 * slot}(%rip)\n")
        out.write('.section .data.rel, "aw"\n.balign 8\n.globl inf_slots\n.hidden inf_slots\ninf_slots:\n')
        out.writelines(f".quad {answer}\n" for _, _, answer in rows)
        out.write('.section .note.GNU-stack, "", @progbits\n')
    with open(output / "symbols.h", "w") as out:
        out.write("/* Written by stand_in.py: the functions in the order of their slots. */\n")
        out.write("static const struct { const char *name; unsigned library; } symbols[] = {\n")
        out.writelines(f'  {{ "{name}", {library} }},\n' for library, name, _ in rows)
        out.write("};\n")
    print(f"cuda: stand-ins for {len(rows)} functions")


main(Path(sys.argv[1]), Path(sys.argv[2]))
