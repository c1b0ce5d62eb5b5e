// SPDX-License-Identifier: MIT
// Loaded before a program that shall find no node-pty, as where it could not be compiled.
import { registerHooks } from 'node:module';

registerHooks({
  resolve(specifier, context, next) {
    if (specifier !== 'node-pty') return next(specifier, context);
    throw Object.assign(new Error("Cannot find package 'node-pty'"), { code: 'ERR_MODULE_NOT_FOUND' });
  },
});
