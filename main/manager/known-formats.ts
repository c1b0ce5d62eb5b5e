// SPDX-License-Identifier: MIT
// Files that people drop on a VM manager and that are not kernels: recognised by their marks so that the answer has a name.

interface Recognised {
  title: string;
  explanation: string;
}

const DISK = 'Disks cannot be attached to machines yet. A kernel file can be started.';
const MEDIUM = 'Installing from media is not possible yet. A kernel file can be started.';
const ARCHIVE = 'Unpack it and open the kernel inside.';

interface Mark {
  title: string;
  explanation: string;
  at: number;
  bytes: readonly number[] | string;
  /** Look in the last sector instead of the beginning. */
  tail?: boolean;
}

const MARKS: readonly Mark[] = [
  { title: 'qcow2 disk image', explanation: DISK, at: 0, bytes: [0x51, 0x46, 0x49, 0xfb] },
  { title: 'VMDK disk image', explanation: DISK, at: 0, bytes: 'KDMV' },
  { title: 'VMDK disk description', explanation: DISK, at: 0, bytes: '# Disk DescriptorFile' },
  { title: 'VHDX disk image', explanation: DISK, at: 0, bytes: 'vhdxfile' },
  { title: 'VHD disk image', explanation: DISK, at: 0, bytes: 'conectix' },
  { title: 'VHD disk image', explanation: DISK, at: 0, bytes: 'conectix', tail: true },
  { title: 'VDI disk image', explanation: DISK, at: 0x40, bytes: [0x7f, 0x10, 0xda, 0xbe] },
  { title: 'CD or DVD image (ISO 9660)', explanation: MEDIUM, at: 0x8001, bytes: 'CD001' },
  { title: 'Disk image with a GPT partition table', explanation: DISK, at: 512, bytes: 'EFI PART' },
  { title: 'ext2, ext3 or ext4 file system', explanation: DISK, at: 0x438, bytes: [0x53, 0xef] },
  { title: 'XFS file system', explanation: DISK, at: 0, bytes: 'XFSB' },
  { title: 'squashfs file system', explanation: DISK, at: 0, bytes: 'hsqs' },
  { title: 'tar archive (perhaps an OVA appliance)', explanation: ARCHIVE, at: 257, bytes: 'ustar' },
  { title: 'zip archive', explanation: ARCHIVE, at: 0, bytes: [0x50, 0x4b, 3, 4] },
  { title: 'Debian package', explanation: ARCHIVE, at: 0, bytes: '!<arch>\ndebian' },
  { title: 'RPM package', explanation: ARCHIVE, at: 0, bytes: [0xed, 0xab, 0xee, 0xdb] },
  { title: 'Script', explanation: 'A script is not a kernel.', at: 0, bytes: '#!' },
  { title: 'Disk image with a boot sector', explanation: DISK, at: 510, bytes: [0x55, 0xaa] },
];

/** The first format whose mark is there; the more particular ones come first. */
export function recogniseOther(head: Uint8Array, tail: Uint8Array): Recognised | null {
  for (const { title, explanation, at, bytes, tail: inTail } of MARKS) {
    const wanted = typeof bytes === 'string' ? [...Buffer.from(bytes, 'latin1')] : bytes;
    const where = inTail ? tail : head;
    if (wanted.every((byte, i) => where[at + i] === byte)) return { title, explanation };
  }
  return null;
}
