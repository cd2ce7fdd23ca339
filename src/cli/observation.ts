// What the observer in the function's process tells, and how it gets there and back.
import { randomUUID } from 'node:crypto'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { LogLine } from '../sandbox/index.ts'
import type { ProbeFindings } from './probe.ts'

/** One message of a channel. `at`: milliseconds on the machine's monotonic clock, which all its processes share. */
export type ObservedMessage = {
  readonly at: number
  readonly what: 'task' | 'hold' | 'hook' | 'load' | 'probe'
  readonly phase: 'started' | 'ended' | 'unstarted'
  readonly data: ObservedData
}

/** The fields of the channels' messages that are read here. */
export type ObservedData = Partial<ProbeFindings> & {
  readonly versions?: readonly string[]
  readonly isLate?: boolean
  readonly name?: string
  readonly awsRequestId?: string
  readonly index?: number
  readonly outcome?: 'success' | 'error'
  readonly carried?: boolean
  readonly status?: string
  readonly error?: string
}

const observerFile = fileURLToPath(new URL('./cli/observer.js', import.meta.url))

export const createObservation = () => {
  // Nothing that a function writes by itself.
  const marker = `${randomUUID()} `
  return {
    /** @param nodeOptions - What the function's NODE_OPTIONS are without us. */
    variables: (nodeOptions: string | undefined) => ({
      POST_INVOKE_OBSERVER: marker,
      NODE_OPTIONS: [nodeOptions, `--import=${pathToFileURL(observerFile).href}`].filter(Boolean).join(' '),
    }),
    /** A line, taken apart: what the function wrote, which may stand before what the observer did. */
    read({ text }: Pick<LogLine, 'text'>): { readonly text?: string; readonly message?: ObservedMessage } {
      const index = text.indexOf(marker)
      if (index < 0) return { text }
      const before = index > 0 ? { text: text.slice(0, index) } : {}
      try {
        const message = JSON.parse(text.slice(index + marker.length)) as ObservedMessage
        return { message, ...before }
      } catch {
        return before // the process was killed in the middle of it
      }
    },
  }
}
