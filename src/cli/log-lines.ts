// What this package's own log lines say of work that was lost or has failed. The only place that knows their words: some of
// this work is done in processes that have no channel to here.

/** What one line tells. Names are as the log has them. */
export type Finding =
  | {
      readonly type: 'handed-off'
      readonly name: string
      readonly requestId: string
      /** `waiting`: it was not done in time, and whatever runs next here tries again. */
      readonly status: 'done' | 'failed' | 'waiting' | 'lost'
      readonly error?: string
    }
  /** Tasks that had not ended when their process did, or when time was up. Without a request: at shutdown. */
  | { readonly type: 'tasks-lost'; readonly requestId?: string; readonly names: readonly string[] }
  /** A failure of no task and no piece of handed-off work: the line itself. */
  | { readonly type: 'fault'; readonly text: string }

/** @param text - One line, in Lambda's text or JSON format. */
export const readOwnLine = (text: string): readonly Finding[] => {
  const { message, error } = toMessage(text)
  for (const [pattern, read] of PATTERNS) {
    const match = pattern.exec(message)
    if (match) return read(match, error)
  }
  return []
}

const PREFIX = 'middy-post-invoke: '

type Message = { readonly message: string; readonly error: string | undefined }

const toMessage = (text: string): Message => {
  const at = text.indexOf(PREFIX)
  if (at < 0) return { message: '', error: undefined }
  const json = parseJson(text)
  if (!json) return { message: text.slice(at + PREFIX.length), error: undefined }
  // A runtime client puts what it is given into a message of its own.
  const fields = isRecord(json.message) ? json.message : json
  const error = isRecord(fields.error) ? fields.error : fields
  const message = String(fields.message)
  return {
    message: message.slice(message.indexOf(PREFIX) + PREFIX.length),
    error: [error.errorType ?? error.name, error.errorMessage ?? (error === fields ? undefined : error.message)]
      .filter(part => part !== undefined)
      .join(': '),
  }
}

type Read = (match: RegExpExecArray, error: string | undefined) => readonly Finding[]

const QUOTED = String.raw`"(?:[^"\\]|\\.)*"`

const PATTERNS: readonly (readonly [RegExp, Read])[] = [
  [
    new RegExp(
      `^handed-off work (${QUOTED}) of request (\\S+?),? (done|.*?(?:failed|lost|given up|refused))\\b:?\\s*(.*)$`,
      's',
    ),
    ([, name = '', requestId = '', status, rest = ''], error) => [
      {
        type: 'handed-off',
        name: unquote(name),
        requestId,
        ...(status === 'done' ? { status: 'done' } : { status: 'failed', ...errorOf(error || firstLine(rest)) }),
      },
    ],
  ],
  [
    /^(time was up|the environment ends) before handed-off work was done: (.*)$/s,
    ([, why, rest = '']) =>
      [...rest.matchAll(new RegExp(`(${QUOTED})(?: of request ([^\\s,.]+))?`, 'g'))].map(([, name = '', id = '']) => ({
        type: 'handed-off',
        name: unquote(name),
        requestId: id,
        status: why === 'time was up' ? 'waiting' : 'lost',
      })),
  ],
  [
    /^.*? request ([^\s;,]+).*?; unfinished: (.*)$/s,
    ([, requestId = '', rest = '']) => [{ type: 'tasks-lost', requestId, names: namesIn(rest) }],
  ],
  [
    new RegExp(`before task (${QUOTED}) of request (\\S+) could run`),
    ([, name = '', requestId = '']) => [{ type: 'tasks-lost', requestId, names: [unquote(name)] }],
  ],
  [/; not run: (.*)$/s, ([, rest = '']) => [{ type: 'tasks-lost', names: namesIn(rest) }]],
  [
    /^(?:a fault of middy-post-invoke|handed-off work (?:of request \S+ )?(?:cannot|could not)|an entry of the spool cannot be read|POST_INVOKE_COMMAND (?:after|never|cannot)|nothing is held)/,
    ({ input }) => [{ type: 'fault', text: firstLine(input) }],
  ],
]

const namesIn = (text: string): string[] => [...text.matchAll(new RegExp(QUOTED, 'g'))].map(([name]) => unquote(name))

const unquote = (text: string): string => {
  try {
    return JSON.parse(text)
  } catch {
    return text.slice(1, -1)
  }
}

/** Runtime clients write a stack into the same line. */
const firstLine = (text: string) => text.split(/[\r\n]|\s{2,}at /)[0]?.trim() ?? ''

const errorOf = (error: string) => (error === '' ? {} : { error })

type Fields = Readonly<Record<string, unknown>>

const isRecord = (value: unknown): value is Fields => typeof value === 'object' && value !== null

const parseJson = (text: string): Fields | undefined => {
  if (!text.startsWith('{')) return undefined
  try {
    return JSON.parse(text) as Fields
  } catch {
    return undefined
  }
}
