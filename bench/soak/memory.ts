// How memory grows from invocation to invocation, within the life of a process.
import { readFileSync } from 'node:fs'

/** The first invocations fill caches, compile code, and make heaps grow to the size that they then keep. */
const WARM_UP = 2_000
const LEAST_SAMPLES = 8

/** A slope over several processes: each has its own line, all have one slope. */
export const createSlope = () => {
  let samples: { x: number; y: number }[] = []
  let above = 0
  let below = 0
  return {
    sample(invocation: number, bytes: number | undefined) {
      if (bytes !== undefined && invocation > WARM_UP) samples.push({ x: invocation, y: bytes })
    },
    /** The process has ended. */
    end() {
      const count = samples.length
      if (count >= LEAST_SAMPLES) {
        const meanX = samples.reduce((sum, { x }) => sum + x, 0) / count
        const meanY = samples.reduce((sum, { y }) => sum + y, 0) / count
        for (const { x, y } of samples) {
          above += (x - meanX) * (y - meanY)
          below += (x - meanX) ** 2
        }
      }
      samples = []
    },
    /** Bytes an invocation, where there were enough. */
    get text(): string {
      return below === 0 ? 'not measured' : `${(above / below).toFixed(0)} B`
    },
  }
}

export type Slope = ReturnType<typeof createSlope>

/** What a process has in memory, without what it only has mapped. */
export const residentBytes = (pid: number | undefined): number | undefined => {
  try {
    const kilobytes = /^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024
  } catch {
    return undefined // it has ended
  }
}
