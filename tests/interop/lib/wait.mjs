// Waiting: for a time, or for something to become true.

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Asks `probe` until it answers something truthy, and returns that; after `limit` ms it returns
 * the last answer, so that the caller can say what it saw instead.
 */
export async function until(probe, limit, pause = 200) {
  const end = Date.now() + limit;
  for (;;) {
    const answer = await probe();
    if (answer || Date.now() > end) return answer;
    await sleep(pause);
  }
}

/** Rejects with `text` when `promise` has not settled in `limit` ms. */
export function within(limit, text, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${text}: nothing after ${limit / 1000} s`)), limit);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
