// The line between the function's process and the layer's companion: JSON, one object a line, over a Unix socket. The
// function's process listens, the companion connects. Layer and package are upgraded apart, so the first line each way
// names the protocol's version.
import { version } from '../version.ts'

/** Raised when a companion of the version before could no longer understand a line. */
export const PROTOCOL = 1

/** Both processes are ours, but a line is never trusted to be short: past this a connection is dropped. */
export const MAX_LINE_BYTES = 65_536

/** How many task names one line carries, the rest is a number; and how much of each. So no line is too long. */
export const MAX_NAMES = 50
const MAX_NAME_LENGTH = 100

/** Tasks by name, at most {@link MAX_NAMES}, and how many more there are. */
export type TaskList = { readonly names: readonly string[]; readonly more: number }

/** For log lines: `"audit", "analytics" and 3 more`. */
export const listTasks = ({ names, more }: TaskList): string =>
  names.map(name => JSON.stringify(name)).join(', ') + (more > 0 ? ` and ${more} more` : '')

export type Message =
  | { readonly type: 'hello'; readonly protocol: number; readonly version: string }
  /** The tasks of a request that would be lost if the function's process died now. */
  | ({ readonly type: 'tasks'; readonly requestId: string } & TaskList)
  /** The response has left and every task has ended: the companion need not hold for this request any longer. */
  | { readonly type: 'settled'; readonly requestId: string }

export const hello: Message = { type: 'hello', protocol: PROTOCOL, version }

export const encode = (message: Message): string => {
  const sent =
    message.type === 'tasks'
      ? { ...message, names: message.names.map(name => name.slice(0, MAX_NAME_LENGTH)) }
      : message
  return `${JSON.stringify(sent)}\n`
}

/** Cuts what arrives into messages. What is no message is counted in `garbled`, never thrown. */
export class MessageReader {
  garbled = 0
  #rest = ''

  /** @returns the messages completed by `chunk`, or `undefined` when a line is too long to go on. */
  read(chunk: string): Message[] | undefined {
    const lines = (this.#rest + chunk).split('\n')
    this.#rest = lines.pop() ?? ''
    if ([this.#rest, ...lines].some(({ length }) => length > MAX_LINE_BYTES)) return undefined
    const messages: Message[] = []
    for (const line of lines) {
      const message = decode(line)
      if (message) messages.push(message)
      else this.garbled++
    }
    return messages
  }
}

const decode = (line: string): Message | undefined => {
  let value: Partial<Record<string, unknown>> | null
  try {
    value = JSON.parse(line)
  } catch {
    return undefined
  }
  switch (value?.type) {
    case 'hello':
      return typeof value.protocol === 'number' && typeof value.version === 'string'
        ? { type: 'hello', protocol: value.protocol, version: value.version }
        : undefined
    case 'settled':
      return typeof value.requestId === 'string' ? { type: 'settled', requestId: value.requestId } : undefined
    case 'tasks':
      return typeof value.requestId === 'string' && isNames(value.names) && typeof value.more === 'number'
        ? { type: 'tasks', requestId: value.requestId, names: value.names.slice(0, MAX_NAMES), more: value.more }
        : undefined
    default:
      return undefined
  }
}

const isNames = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every(name => typeof name === 'string')
