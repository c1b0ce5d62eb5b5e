// SPDX-License-Identifier: MIT
// Micro-guests: physdev_op: I/O permission bitmap and level, operations for domains with devices.
import { addressOf, al, eax, mem, type LabelAddress } from '../../../engine/x86/assembler/operands.ts';
import { ERRNO } from '../../../main/demo-guest/xen-abi.ts';
import { testMicroGuest } from './run.ts';

const PHYSDEVOP = { setIopl: 6, setIobitmap: 7, pirqEoiGmfn: 28 } as const;

testMicroGuest('set_iobitmap', (asm, lib) => {
  lib.setUpUserMode();
  const bitmap = lib.pages('bitmap', 2);
  const set = (ports: number, address: LabelAddress | number = addressOf(bitmap)): LabelAddress =>
    lib.data((d) => d.dq(address).dd(ports, 0));
  lib.call('set', 0, 'physdev_op', PHYSDEVOP.setIobitmap, set(0x10000));
  lib.user(() => asm.mov(eax, 0).in(al, 0x80));
  lib.expectMemory(
    'a clear bit permits the port to user mode',
    mem({ label: 'rt_syscall_record', disp: 72, size: 8 }),
    0xff,
  );
  asm.mov(mem({ label: bitmap, disp: 0x80 / 8, size: 1 }), 1);
  const site = asm.unique('site');
  const after = asm.unique('after');
  lib.arm(after);
  lib.user(() => asm.label(site).in(al, 0x80).label(after));
  lib.expectTrapRecord('a set bit forbids it', { vector: 13, error: 0, rip: site });
  lib.call('fewer ports than the one in question', 0, 'physdev_op', PHYSDEVOP.setIobitmap, set(0x40));
  const site2 = asm.unique('site');
  const after2 = asm.unique('after');
  lib.arm(after2);
  lib.user(() => asm.label(site2).in(al, 0x81).label(after2));
  lib.expectTrapRecord('a port beyond the bitmap', { vector: 13, error: 0, rip: site2 });
  lib.call('too many ports', -ERRNO.EINVAL, 'physdev_op', PHYSDEVOP.setIobitmap, set(0x10001));
  lib.call('none', 0, 'physdev_op', PHYSDEVOP.setIobitmap, set(0, 0));
  lib.call('an unreadable argument', -ERRNO.EFAULT, 'physdev_op', PHYSDEVOP.setIobitmap, 0x7000);
  lib.call('unknown operation', -ERRNO.ENOSYS, 'physdev_op', 200, set(0));
  lib.call(
    'the old form knows set_iopl',
    0,
    'physdev_op_compat',
    lib.data((d) => d.dd(PHYSDEVOP.setIopl, 0).dd(1, 0, 0, 0, 0, 0)),
  );
});
