// SPDX-License-Identifier: MIT
// Work of which only the latest state counts, done by one run at a time.

export interface OneAtATime {
  (): Promise<void>;
  /** Nothing runs any more, but what is under way. */
  end(): void;
}

/**
 * `work`, run when the result is called. A call during a run is made up for by one more behind it: what the run was answered may be out of
 * date by then.
 */
export function oneAtATime(work: () => Promise<void>): OneAtATime {
  let running: Promise<void> | null = null;
  let again = false;
  let isOver = false;
  const runs = async (): Promise<void> => {
    try {
      do {
        again = false;
        await work();
      } while (again && !isOver);
    } finally {
      running = null;
    }
  };
  const run = (): Promise<void> => {
    if (isOver) return Promise.resolve();
    again = true;
    return (running ??= runs());
  };
  return Object.assign(run, { end: () => (isOver = true) });
}
