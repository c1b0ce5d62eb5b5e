// SPDX-License-Identifier: MIT
// Debian's cloud kernel (packed with lz4) with busybox: commands in both orders of machine frames, and the ways to end.
import { describe } from 'vitest';
import { describeCommands, describeEnds } from './support/linux-suite.ts';

describe('machine frames at a constant distance', () => {
  describeCommands({ flavour: 'cloud' });
  describeEnds({ flavour: 'cloud' });
});

describe('machine frames permuted', () => {
  describeCommands({ flavour: 'cloud', mfnOrder: 'permuted' });
});
