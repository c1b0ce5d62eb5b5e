// SPDX-License-Identifier: MIT
// Unit tests of reading apt's records.
import { describe, expect, it } from 'vitest';
import { parseRecord } from './apt.ts';

describe('parseRecord', () => {
  it('reads the fields that are used and leaves alternatives out', () => {
    const stanza = [
      'Package: linux-image-cloud-amd64',
      'Version: 1:6.1.192-2',
      'Architecture: amd64',
      'Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2), a | b, python3:any, plain',
      'Size: 1512',
      'Description: Linux for x86-64 cloud (meta-package)',
      ' Depends: not a field',
    ].join('\n');
    expect(parseRecord(stanza)).toEqual({
      name: 'linux-image-cloud-amd64',
      version: '1:6.1.192-2',
      architecture: 'amd64',
      size: 1512,
      depends: ['linux-image-6.1.0-56-cloud-amd64', 'python3', 'plain'],
    });
  });
  it('has no dependencies where there are none', () => {
    expect(parseRecord('Package: a\nVersion: 1\nArchitecture: all')).toEqual({
      name: 'a',
      version: '1',
      architecture: 'all',
      size: 0,
      depends: [],
    });
  });
  it('is null for anything else', () => expect(parseRecord('N: Unable to locate package x')).toBeNull());
});
