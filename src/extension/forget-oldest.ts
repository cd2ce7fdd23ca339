// What is remembered by request has a bound: requests come for as long as the environment lives.

/** Lets go of the oldest until no more than `most` are left. */
export const forgetOldest = (entries: Set<string> | Map<string, unknown>, most: number): void => {
  for (const oldest of entries.keys()) {
    if (entries.size <= most) return
    entries.delete(oldest)
  }
}
