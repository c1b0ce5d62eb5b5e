// SPDX-License-Identifier: MIT
// Debian's kernel for any PC (packed with xz) with busybox: commands, and the ways to end.
import { describeCommands, describeEnds } from './support/linux-suite.ts';

describeCommands({ flavour: 'generic' });
describeEnds({ flavour: 'generic' });
