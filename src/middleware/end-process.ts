/**
 * Ends this process at once. process.exit() would not: while the runtime client's native call for the next invocation is
 * pending, an exit waits for that call, and the next invocation dies in it.
 */
export const endProcess = (signal = 'SIGKILL'): boolean => process.kill(process.pid, signal)
