// SPDX-License-Identifier: MIT
// The page of hypercall stubs that kernels with a HYPERCALL_PAGE note call into. ABI: 64-bit PV, xen/include/public/arch-x86/xen-x86_64.h.

const PAGE_SIZE = 4096;
const STUB_SIZE = 32;
const HYPERVISOR_IRET = 23;
/** Fills the space between stubs: a guest that goes astray there gets a breakpoint trap. */
const INT3 = 0xcc;

/** Makes the page: stub n, 32 bytes each, makes hypercall n. */
export function hypercallPage64(): Uint8Array {
  const page = new Uint8Array(PAGE_SIZE).fill(INT3);
  for (let n = 0; n < PAGE_SIZE / STUB_SIZE; n++)
    page.set(n === HYPERVISOR_IRET ? iretStub() : callStub(n), n * STUB_SIZE);
  return page;
}

/** push rcx; push r11; mov eax, n; syscall; pop r11; pop rcx; ret: the instruction itself destroys rcx and r11. */
function callStub(n: number): number[] {
  return [0x51, 0x41, 0x53, 0xb8, n, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3];
}

/** push rcx; push r11; push rax; mov eax, 23; syscall: this one is jumped to and does not return. */
function iretStub(): number[] {
  return [0x51, 0x41, 0x53, 0x50, 0xb8, HYPERVISOR_IRET, 0, 0, 0, 0x0f, 0x05];
}
