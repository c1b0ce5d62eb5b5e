// SPDX-License-Identifier: MIT
// The time of day for "running 3 h 12 min": one timer for the page, none while the page is hidden.

class Clock {
  now = $state(Date.now());

  follow(): void {
    setInterval(() => {
      if (!document.hidden) this.now = Date.now();
    }, 1000);
    document.addEventListener('visibilitychange', () => {
      this.now = Date.now();
    });
  }
}

export const clock = new Clock();
