// SPDX-License-Identifier: MIT
// What keeps V8 from dropping the optimised code of functions: an object of each class stays alive, and fields begin with what they will hold.

const specimens = new Map<unknown, object>();

/** The object stays alive until the next one of its class is kept: code that met only objects which a collection found gone is dropped. Returns it. */
export function keepSpecimen<T extends object>(object: T): T {
  specimens.set(object.constructor, object);
  return object;
}

/**
 * Zero, for a field that will hold fractions or more than 31 bits. V8 takes a field that began as a small integer for one that always is, and when it
 * is not, drops the code of whatever knows the class. (-0 is not a small integer.)
 */
export const wideZero = -0;
