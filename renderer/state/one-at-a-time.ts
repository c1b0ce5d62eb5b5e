// SPDX-License-Identifier: MIT
// Work of which only the latest state counts, done by one run at a time.

/**
 * `work`, run when the result is called. A call during a run is made up for by one more behind it: what the run was answered may be out of
 * date by then.
 */
export function oneAtATime(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | null = null;
  let again = false;
  const runs = async (): Promise<void> => {
    try {
      do {
        again = false;
        await work();
      } while (again);
    } finally {
      running = null;
    }
  };
  return () => {
    again = true;
    return (running ??= runs());
  };
}
