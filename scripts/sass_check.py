#!/usr/bin/env python3
"""Counts the machine instructions of cubins, and holds them to a list of expectations.

    sass_check.py CUBIN...                        prints instructions by kernel
    sass_check.py --expect FILE FOLDER            FOLDER holds NAME.ARCHITECTURE.cubin

Needs neither cuobjdump nor nvdisasm, which many toolkits lack: from sm_70 on an instruction is 16 bytes, and the
low 12 bits of the first 8 are its opcode and operand form. The numbers below were found by compiling functions
with a known number of each; the expectations on tests/emu/dialect_kernels.cu keep that so for every toolkit.

A line of FILE:  NAME  KERNEL  ARCHITECTURES  INSTRUCTION  COUNT   with ARCHITECTURES `75`, `80+` or `75-89`, COUNT
`=3` or `>=1`, and KERNEL a regular expression of the whole name in the source. A line that no kernel matches is
an error, and so is a NAME without cubins."""

import argparse
import collections
import glob
import os
import re
import struct
import sys

OPCODES = {
    "HMMA": (0x23C,),  # mma of bf16, f16, tf32
    "MOVM": (0x23A,),  # movmatrix
    "LDSM": (0x83B,),  # ldmatrix
    "LDGSTS": (0xFAE,),  # cp.async
    "LDGDEPBAR": (0x9AF,),
    "DEPBAR": (0x91A,),
    "BAR": (0xB1D, 0x51D, 0x31D, 0x91D),  # barriers of a block
    "UCGABAR": (0x9C7, 0xDC7),  # barriers of a cluster: arrive, wait
    "SYNCS": (0x5A7, 0x9A7, 0x5B2, 0x9B2),  # mbarriers
    "SHFL": (0x389, 0x589, 0x989, 0xF89),
    "VOTE": (0x806,),
    "MUFU": (0x308,),
    "LDG": (0x981, 0x381),
    "STG": (0x986, 0x386),
    "LDL": (0x983,),  # local memory: spills and indexed arrays
    "STL": (0x387, 0x987),
}
NAMES = {number: name for name, numbers in OPCODES.items() for number in numbers}


def sections(data):
    """Name and bytes of every section of a 64-bit ELF file."""
    if data[:4] != b"\x7fELF" or data[4] != 2:
        raise ValueError("not a 64-bit ELF file")
    (offset,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names_index = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, offset + size * i) for i in range(count)]
    names = headers[names_index][4]
    for header in headers:
        start = names + header[0]
        yield data[start : data.index(b"\0", start)].decode(), data[header[4] : header[4] + header[5]]


def source_name(mangled):
    """The function's own name: the last length-prefixed identifier of the nested or plain name."""
    match = re.match(r"_Z(N?)", mangled)
    if not match:
        return mangled
    at, name = match.end(), mangled
    while True:
        number = re.match(r"\d+", mangled[at:])
        if not number:
            return name
        start = at + number.end()
        at = start + int(number.group())
        name = mangled[start:at]
        if not match.group(1):
            return name


def count(path):
    """{kernel: (mangled name, Counter of instruction names)}; templates get a list of entries."""
    kernels = collections.defaultdict(list)
    with open(path, "rb") as file:
        data = file.read()
    for section, code in sections(data):
        if not section.startswith(".text."):
            continue
        counter = collections.Counter()
        for i in range(0, len(code) - 15, 16):
            opcode = struct.unpack_from("<Q", code, i)[0] & 0xFFF
            counter["all"] += 1
            if opcode in NAMES:
                counter[NAMES[opcode]] += 1
        mangled = section[len(".text.") :]
        kernels[source_name(mangled)].append((mangled, counter))
    return kernels


def architecture_matches(wanted, architecture):
    if wanted.endswith("+"):
        return architecture >= int(wanted[:-1])
    first, _, last = wanted.partition("-")
    return int(first) <= architecture <= int(last or first)


def check(expectations, folder):
    failures, checked, counted = [], 0, {}
    for number, line in enumerate(open(expectations), 1):
        line = line.split("#")[0].split()
        if not line:
            continue
        where = f"{expectations}:{number}"
        name, kernel, architectures, instruction, how = line
        relation, wanted = re.fullmatch(r"(>?=)(\d+)", how).groups()
        if instruction not in OPCODES:
            failures.append(f"{where}: no instruction {instruction} is known")
            continue
        paths = glob.glob(os.path.join(folder, f"{name}.*.cubin"))
        if not paths:
            failures.append(f"{where}: no cubins of {name} in {folder}")
        there = [p for p in paths if architecture_matches(architectures, int(p.split(".")[-2].rstrip("a")))]
        for path in sorted(there):
            if path not in counted:
                counted[path] = count(path)
            found = [e for k, entries in counted[path].items() if re.fullmatch(kernel, k) for e in entries]
            if not found:
                failures.append(f"{where}: {path} has no kernel {kernel}")
            for mangled, counter in found:
                checked += 1
                have = counter[instruction]
                if have != int(wanted) if relation == "=" else have < int(wanted):
                    failures.append(f"{where}: {path}: {mangled} has {have} {instruction}, expected {how}")
    for failure in failures:
        print(failure)
    print(f"{checked} counts in {len(counted)} cubins, {len(failures)} failures")
    return not failures and checked > 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--expect", metavar="FILE")
    parser.add_argument("paths", nargs="+", metavar="PATH")
    arguments = parser.parse_args()
    if arguments.expect:
        return 0 if check(arguments.expect, arguments.paths[0]) else 1
    for path in arguments.paths:
        for kernel, entries in count(path).items():
            for _, counter in entries:
                rest = " ".join(f"{n}={c}" for n, c in sorted(counter.items()) if n != "all")
                print(f"{os.path.basename(path)} {kernel}: {counter['all']} instructions {rest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
