// SPDX-License-Identifier: MIT
// What the default differential test run is: the coverage page documents exactly this run.

export const DEFAULT_SEED = 2611;
export const DEFAULT_CASES = 220_000;
