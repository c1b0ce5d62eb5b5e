// SPDX-License-Identifier: MIT
// Writes the machine code of the built interpreter to a file, unless it cannot be kept: run with the options of the VM processes that it is for.
import { readFileSync, writeFileSync } from 'node:fs';
import { compileInterpreter } from '../machine-code/interpreter-code.ts';
import { interpreterFile } from './interpreter-files.ts';

const code = compileInterpreter(readFileSync(interpreterFile));
if (code) writeFileSync(process.argv[2]!, code);
