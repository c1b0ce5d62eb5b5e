// SPDX-License-Identifier: MIT
// Keeps one object of each class that comes and goes alive: V8 drops the optimised code of functions that met only such objects when a collection finds none left.

const specimens = new Map<unknown, object>();

/** The object stays alive until the next one of its class is kept. Returns it. */
export function keepSpecimen<T extends object>(object: T): T {
  specimens.set(object.constructor, object);
  return object;
}
