// Whole lives of the companion script, made up by fast-check: invocations, a function that settles, dies or is late, and
// an Extensions API whose bytes come cut, split, late or as garbage, in any order of the two sides.
//
// Nothing here depends on how the script works, or on how fast. It is looked at where it sleeps, and each request for an
// event is judged as it arrives, by what the function had said and what time it was.
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import fc from 'fast-check'
import {
  answerWith,
  type FunctionProcess,
  IDENTIFIER,
  invoke,
  type Received,
  type Role,
  shutdown,
  startApi,
  startCompanion,
} from './companion-script.ts'

// --- What can happen

const FAULTS = {
  'the connection is reset': undefined,
  'the connection is closed': undefined,
  'a part of a head, and it is reset': 'HTTP/1.1 200 OK\r\nContent-Le',
  'a part of an event, and it is closed': answerWith(invoke('a-part')).slice(0, -40),
  'a part of an event, and silence': answerWith(invoke('a-part')).slice(0, -40),
  refused: answerWith('{"errorType":"Refused"}', '403 Forbidden'),
  failed: answerWith('{"errorMessage":"\\"x\\""}', '500 Internal "Server" Error'),
  'an empty answer': answerWith(''),
  'an event of another kind': answerWith({ eventType: 'THAW', deadlineMs: 1 }),
  null: answerWith('null'),
  'no HTTP': 'SSH-2.0-OpenSSH_9.6\r\n\r\n',
  'an absurd length': 'HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n',
  'chunks that are none': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n',
  'a length that is code': 'HTTP/1.1 200 OK\r\nContent-Length: a[$(kill $$)]\r\n\r\n',
} as const
type Fault = keyof typeof FAULTS

/** After these nothing more comes on a connection. */
const NOTHING_AFTER: ReadonlySet<Fault> = new Set([
  'a part of an event, and silence',
  'no HTTP',
  'an absurd length',
  'chunks that are none',
  'a length that is code',
])

const STYLES = [
  'with a length',
  'in chunks',
  'with spaces',
  'in lower case',
  'as the last',
  'without a length',
] as const

/** One invocation, as it goes. */
type Invocation = {
  id: 'new' | 'the same again' | string
  fate: 'settles' | 'dies' | 'is late' | 'event lost'
  /** Whether tasks run after the response. */
  holds: boolean
  faults: readonly Fault[]
  style: (typeof STYLES)[number]
  /** Where the answer is cut into pieces, as fractions of it. */
  cuts: readonly number[]
  /** Lines that mean nothing. */
  noise: readonly string[]
  isLineSplit: boolean
  /** When the process after one that has died is there. */
  restart: 'before' | 'during' | 'never'
  /** Who moves next, and whether the script may come to rest before. */
  order: readonly { side: 'API' | 'function' | 'freeze' | 'thaw' | 'SIGTERM'; afterRest: boolean }[]
}

export type Life = {
  role: Exclude<Role, 'sigterm'>
  firstLine: 'open' | 'watch'
  format: 'JSON' | 'Text'
  /** Where the answer to the registration is cut. */
  registration: readonly number[]
  invocations: readonly Invocation[]
}

const often = <Value>(value: Value, others: fc.Arbitrary<Value>, weight = 4): fc.Arbitrary<Value> =>
  fc.oneof({ weight, arbitrary: fc.constant(value) }, { weight: 1, arbitrary: others })

const noise = fc.oneof(
  fc.constantFrom(
    ...[
      '',
      ' ',
      'nonsense',
      'settled',
      'settled 0 r',
      'settled -1 r',
      'settled 01 r',
      'settled 1x r',
      'hold',
      'hold 1',
    ],
    ...['settled a[$(kill $$)] r', 'hold 1 a[$(kill $$)]', 'hold $(kill $$) 1000', 'SETTLED 1 r', 'settled\\ 1 r', '*'],
    ...['settled 99999999999999999999 r', 'hold 99999999999999999999 1', 'x'.repeat(9_000)],
  ),
  fc.string({ unit: 'binary-ascii' }).map(text => text.replaceAll('\n', '')),
)

const cuts = often<number[]>([], fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 4 }), 2)

const faults = Object.keys(FAULTS) as Fault[]
/** Silence is rare here, for its end takes 2 seconds. */
const fault = fc.oneof(
  { weight: 20, arbitrary: fc.constantFrom(...faults.filter(name => !NOTHING_AFTER.has(name))) },
  { weight: 1, arbitrary: fc.constantFrom(...NOTHING_AFTER) },
)

const invocation: fc.Arbitrary<Invocation> = fc.record({
  id: often<string>(
    'new',
    fc.constantFrom('the same again', '"quoted"', "it's", 'back\\slash', '$(kill $$)', '*', 'SHUTDOWN', 'é'),
  ),
  fate: often<Invocation['fate']>('settles', fc.constantFrom('dies', 'is late', 'event lost'), 2),
  holds: fc.boolean(),
  faults: often<Fault[]>([], fc.array(fault, { maxLength: 3 }), 3),
  style: often<Invocation['style']>('with a length', fc.constantFrom(...STYLES), 2),
  cuts,
  noise: often<string[]>([], fc.array(noise, { maxLength: 3 }), 2),
  isLineSplit: often(false, fc.constant(true)),
  restart: often<Invocation['restart']>('before', fc.constantFrom('during', 'never'), 1),
  order: fc.array(
    fc.record({
      side: fc.oneof(
        { weight: 8, arbitrary: fc.constantFrom('API' as const, 'function' as const) },
        { weight: 1, arbitrary: fc.constantFrom('freeze' as const, 'thaw' as const, 'SIGTERM' as const) },
      ),
      afterRest: fc.boolean(),
    }),
    { maxLength: 12 },
  ),
})

export const lives: fc.Arbitrary<Life> = fc.record({
  role: fc.constantFrom('layer', 'internal'),
  firstLine: often<Life['firstLine']>('open', fc.constant('watch'), 3),
  format: fc.constantFrom('Text', 'JSON'),
  registration: cuts,
  invocations: fc.array(invocation, { minLength: 1, maxLength: 6 }),
})

// --- One life

/** What it took, for the sums. */
export type Counts = { invocations: number; requests: number; moves: number }

/** How long something that has to happen may take. It is no measure: the longest thing to wait for takes 6 seconds. */
const PATIENCE_MS = 20_000

/** Another script: the file of the layer's, and the text of that of the internal extension. */
export type Scripts = { readonly layer: string; readonly internal: string }

/** Lives it. Throws an error that tells what went wrong, and all that had happened before. */
export const live = async (life: Life, scripts?: Scripts): Promise<Counts> => {
  await using cleanUp = new AsyncDisposableStack()
  const run = createRun(life)
  try {
    await run.all(cleanUp, scripts?.[life.role])
    return run.counts
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${run.told.map(line => `  ${line}`).join('\n')}`)
  }
}

const createRun = ({ role, firstLine, format, registration, invocations }: Life) => {
  const told: string[] = []
  const counts: Counts = { invocations: 0, requests: 0, moves: 0 }
  const tell = (what: string) => void told.push(what)
  const wrong: string[] = []
  const fail = (what: string) => {
    tell(`WRONG: ${what}`)
    wrong.push(what)
  }

  // --- Connections, and the requests on them

  type Connection = { unanswered: number; isOver: boolean; isSilent: boolean }
  const connections = new Map<Socket, Connection>()
  const connectionOf = (socket: Socket): Connection => {
    let connection = connections.get(socket)
    if (!connection) {
      connection = { unanswered: 0, isOver: false, isSilent: false }
      connections.set(socket, connection)
      socket.once('close', () => {
        ;(connection as Connection).isOver = true
      })
      socket.once('end', () => {
        ;(connection as Connection).isOver = true
      })
    }
    return connection
  }
  const live = () => [...connections].filter(([, { unanswered, isOver }]) => unanswered > 0 && !isOver)
  const pending = (): Socket | undefined => live()[0]?.[0]

  /** The event that is out, at the companion, and may not be let go before its time. */
  type Out = { socket: Socket; isWhole: boolean }
  let out: Out | undefined
  /** What was out was not whole, and its connection is gone. */
  let isToSendAgain = false

  let now: {
    requestId: string
    hasSettled: boolean
    /** From when on it may be let go. */
    cap: number
    /** Why nobody has to hold it. */
    isFree: string
  } = { requestId: '', hasSettled: false, cap: Number.POSITIVE_INFINITY, isFree: '' }
  let isThere = false // the function's process, which takes part

  const isJustified = () => now.hasSettled || now.isFree !== '' || !isThere || Date.now() >= now.cap

  const received = ({ head, body, socket }: Received) => {
    if (head.startsWith('POST ')) return
    counts.requests++
    const connection = connectionOf(socket)
    tell(`<- a request for an event${connection.unanswered > 0 ? ', before the answer was read' : ''}`)
    const right = `GET /2020-01-01/extension/event/next HTTP/1.1\r\nHost: ${address}\r\nLambda-Extension-Identifier: ${IDENTIFIER}`
    if (head !== right || body !== '') fail(`a request that is none: ${JSON.stringify(head)}`)
    connection.unanswered++
    // It has asked for the next event with an answer before it that is none, and has no patience with the rest of that.
    if (connection.isSilent) {
      tell('   and its connection is closed')
      connection.isOver = true
      socket.end()
    }
    if (connection.unanswered > 1 && !connection.isOver) fail('two requests on one connection')
    if (!out) return
    if (!out.isWhole && out.socket !== socket) {
      tell('   the event had not come as a whole')
      isToSendAgain = true
      out = undefined
      return
    }
    if (!isJustified()) fail(`request ${now.requestId} was let go before it had settled`)
    out = undefined
  }
  let address = ''

  const all = async (cleanUp: AsyncDisposableStack, script: string | undefined) => {
    const api = await startApi(received)
    address = api.address
    const companion = await startCompanion(cleanUp, {
      role,
      api,
      isUnregistered: true,
      env: { AWS_LAMBDA_LOG_FORMAT: format },
      ...(script !== undefined && { script }),
    })
    const { pid } = companion
    let hasEnded: number | string | undefined
    void companion.ended.then(status => {
      hasEnded = status
    })

    // --- Waiting for it

    const state = (): string => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
        return stat.slice(stat.lastIndexOf(')') + 2)[0] as string
      } catch {
        return 'Z'
      }
    }
    const turns = async () => {
      for (let turn = 0; turn < 2; turn++) await new Promise<void>(resolve => setImmediate(resolve))
    }
    /** It sleeps, is stopped or has ended: it has done all that it could, and what it has sent is here. */
    const rest = async () => {
      await turns()
      const end = performance.now() + PATIENCE_MS
      while (!'STZ'.includes(state())) {
        if (performance.now() > end) throw new Error('It never comes to rest')
        await new Promise(resolve => setTimeout(resolve, 1))
      }
      await turns()
    }
    const check = () => {
      if (live().length > 1) fail('two requests at a time, on two connections')
      if (wrong.length > 0) throw new Error(wrong.join('; '))
    }
    const until = async (what: string, condition: () => boolean) => {
      const end = performance.now() + PATIENCE_MS
      while (!condition()) {
        if (wrong.length > 0) throw new Error(wrong.join('; '))
        if (performance.now() > end) throw new Error(`Waited in vain until ${what}`)
        if (hasEnded !== undefined) throw new Error(`It has ended (${hasEnded}) where it was to go on until ${what}`)
        await new Promise(resolve => setTimeout(resolve, 1))
      }
    }
    const signal = (name: 'SIGSTOP' | 'SIGCONT' | 'SIGTERM') => {
      tell(`-- ${name}`)
      companion.process.kill(name)
    }

    // --- Bytes

    const write = (socket: Socket, bytes: string) => {
      if (!socket.writable) return
      socket.write(Buffer.from(bytes))
    }
    const pieces = (bytes: string, at: readonly number[]): string[] => {
      const buffer = Buffer.from(bytes)
      const ends = [...at.map(part => Math.floor(part * buffer.length)), buffer.length].sort((a, b) => a - b)
      return ends
        .map((end, index) => buffer.subarray(ends[index - 1] ?? 0, end).toString('latin1'))
        .filter(piece => piece !== '')
    }
    const writePiece = (socket: Socket, piece: string) => {
      if (socket.writable) socket.write(Buffer.from(piece, 'latin1'))
    }

    // --- It registers

    const { socket: first } = await api.take()
    connectionOf(first)
    for (const piece of pieces(
      answerWith('{}', '200 OK', `Lambda-Extension-Identifier: ${IDENTIFIER}\r\n`),
      registration,
    )) {
      writePiece(first, piece)
      await rest()
    }
    await until('it asks for its first event', () => pending() !== undefined)

    // --- The function's process

    let fn: FunctionProcess | undefined
    let number = 0
    let isFirstLine = true
    const begin = () => {
      tell('   a process of the function begins')
      if (role === 'layer' || !fn) fn = companion.connect()
      rmSync(companion.tasks, { force: true })
      isFirstLine = true
    }
    const say = (line: string) => {
      tell(`-> ${line.length > 100 ? `${line.slice(0, 100)} …` : line}`)
      fn?.say(line)
    }
    const takePart = () => {
      if (!isFirstLine) return
      isFirstLine = false
      say(firstLine)
    }

    const expected: string[] = []
    let badAnswers = 0
    /** What a function that was late still has to do. */
    let endOfLate: (() => void) | undefined
    let wordsOfLate: string | undefined

    // --- One invocation: what the API does, and what the function does

    const theInvocation = async (plan: Invocation, previous: Invocation | undefined, isLast: boolean) => {
      const index = ++counts.invocations
      // An event that was lost, or let go before the process was there, is told from the next by its request id alone.
      const isIdFree = !previous || (previous.fate !== 'event lost' && previous.restart !== 'during')
      const isOwnIdFree = plan.fate !== 'event lost' && plan.restart !== 'during'
      let requestId = `${index.toString(16).padStart(2, '0')}ab12cd-0000-4000-8000-00000000000${index}`
      if (plan.id === 'the same again' && isIdFree && now.requestId !== '') requestId = now.requestId
      else if (plan.id !== 'new' && plan.id !== 'the same again' && isIdFree && isOwnIdFree) requestId = plan.id
      const start = /^[\w-]{0,8}/.exec(requestId)?.[0]

      const comes = fn === undefined || (role === 'layer' && !isThere)
      const restart = comes && index > 1 ? plan.restart : 'before'
      // The internal extension ends with its function. One that began too late has no witness in this invocation.
      const cannotDie = (role === 'internal' && !isLast) || restart === 'during'
      const fate = plan.fate === 'dies' && cannotDie ? 'settles' : plan.fate
      const isLate = fate === 'is late' && restart === 'before'
      const deadline = Date.now() + (isLate ? 130 : 600_000)
      now = { requestId, hasSettled: false, cap: deadline - 101, isFree: '' }
      tell(`== invocation ${index}, ${JSON.stringify(requestId)}, ${fate}`)
      isToSendAgain = false
      if (restart === 'never') now.isFree = 'nobody takes part'
      else if (restart === 'during') now.isFree = 'the process began too late'
      else if (comes) begin()
      isThere = restart !== 'never'
      if (isThere && restart === 'before') takePart()

      const words = { gone: `gone ${index} "audit"`, late: `late ${index} "audit"` }
      const inFormat = (text: string) => (format === 'JSON' ? JSON.stringify({ message: text }) : text)

      // What the API does.
      const isDone = { api: false }
      const toApi: (() => void)[] = []
      const socketNow = () => pending() as Socket
      for (const fault of plan.faults) {
        toApi.push(() => {
          const socket = socketNow()
          const connection = connectionOf(socket)
          tell(`-> fault: ${fault}`)
          const bytes = FAULTS[fault]
          if (bytes !== undefined) {
            badAnswers++
            connection.unanswered--
            write(socket, bytes)
          }
          if (/reset|closed/.test(fault)) connection.isOver = true
          connection.isSilent = NOTHING_AFTER.has(fault)
          if (fault.endsWith('reset')) socket.resetAndDestroy()
          if (fault.endsWith('closed')) socket.end()
        })
      }
      const event = {
        ...invoke(requestId, deadline),
        ...(plan.style === 'in lower case' && { tracing: { value: 'é'.repeat(40) } }),
      }
      const style = fate === 'event lost' ? 'with a length' : plan.style
      const text = style === 'with spaces' ? JSON.stringify(event, null, 2) : JSON.stringify(event)
      const bytes = {
        'with a length': () => answerWith(text),
        'with spaces': () => answerWith(text),
        'in lower case': () => answerWith(text).replace(/^[A-Z].*:/gm, name => name.toLowerCase()),
        'in chunks': () => {
          const chunks = pieces(text, plan.cuts)
          return `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${[...chunks, '']
            .map(chunk => `${chunk.length.toString(16)}\r\n${Buffer.from(chunk, 'latin1').toString()}\r\n`)
            .join('')}`
        },
        'as the last': () => answerWith(text, '200 OK', 'Connection: close\r\n'),
        'without a length': () => `HTTP/1.0 200 OK\r\n\r\n${text}`,
      }[style]()
      const sendEvent = () => {
        const parts = pieces(bytes, fate === 'event lost' ? [] : plan.cuts)
        const moves = parts.map((piece, place) => () => {
          if (place === 0) {
            const socket = socketNow()
            out = { socket, isWhole: false }
            isToSendAgain = false
            connectionOf(socket).unanswered--
            sending = socket
          }
          const isEnd = place === parts.length - 1
          tell(`-> the event${parts.length > 1 ? `, piece ${place + 1} of ${parts.length}` : ''}`)
          if (isEnd && out && out.socket === sending) out.isWhole = true
          writePiece(sending as Socket, piece)
          if (isEnd && (style === 'as the last' || style === 'without a length')) {
            connectionOf(sending as Socket).isOver = true
            ;(sending as Socket).end()
          }
          if (isEnd && fate === 'event lost') {
            tell('   and its connection is reset')
            connectionOf(sending as Socket).isOver = true
            out = undefined
            ;(sending as Socket).resetAndDestroy()
          }
        })
        toApi.push(...moves)
      }
      let sending: Socket | undefined
      sendEvent()
      /** The API moves when there is a request to answer, or an answer to go on with. */
      const moveApi = (): boolean => {
        if (isToSendAgain) {
          toApi.length = 0
          isToSendAgain = false
          sendEvent()
        }
        const goesOn = out !== undefined && !out.isWhole
        if (toApi.length === 0 || (!goesOn && pending() === undefined)) return false
        counts.moves++
        ;(toApi.shift() as () => void)()
        isDone.api = toApi.length === 0
        return true
      }

      // What the function does.
      const toFunction: (() => void)[] = []
      if (endOfLate) toFunction.push(endOfLate)
      endOfLate = wordsOfLate = undefined
      const itsNumber = comes && isThere ? 1 : number + 1
      if (restart === 'during') {
        toFunction.push(() => {
          begin()
          takePart()
        })
      }
      if (isThere) {
        const has = plan.holds || isLate
        if (has) {
          const writeWords = () => companion.writeLastWords(inFormat(words.gone), inFormat(words.late))
          const sayHold = () => say(`hold ${itsNumber} ${deadline}`)
          // At once where time is short: what it is late for has to be there by then. A hold that comes after its deadline
          // says nothing more: the function has timed out.
          if (isLate) {
            for (const act of toFunction.splice(0)) act()
            writeWords()
            sayHold()
          } else toFunction.push(writeWords, sayHold)
        }
        for (const line of plan.noise) toFunction.push(() => say(line))
        if (itsNumber > 1 && plan.noise.length > 1) toFunction.push(() => say(`settled ${itsNumber - 1} ${start}`))
        if (isLate) {
          expected.push(words.late)
          wordsOfLate = words.gone
          endOfLate = () => {
            writeFileSync(companion.tasks, '\n\n', { mode: 0o600 })
            say(`settled ${itsNumber} ${start}`)
          }
        } else if (fate === 'dies') {
          if (has) expected.push(words.gone)
          toFunction.push(() => {
            tell('   the process of the function is gone')
            isThere = false
            fn?.end()
          })
        } else {
          toFunction.push(() => {
            if (has) writeFileSync(companion.tasks, '\n\n', { mode: 0o600 })
            now.hasSettled = true
            const line = `settled ${itsNumber} ${start}`
            if (!plan.isLineSplit) return say(line)
            tell(`-> the beginning of: ${line}`)
            fn?.write(line.slice(0, 9))
          })
          if (plan.isLineSplit) {
            toFunction.push(() => {
              tell('-> its end')
              fn?.write(`settled ${itsNumber} ${start}\n`.slice(9))
            })
          }
        }
      }

      if (isThere) number = itsNumber

      for (const { side, afterRest } of plan.order) {
        if (afterRest) {
          await rest()
          check()
        }
        if (side === 'freeze') signal('SIGSTOP')
        else if (side === 'thaw') signal('SIGCONT')
        else if (side === 'SIGTERM') signal('SIGTERM')
        else if (side === 'API' && moveApi()) continue
        else toFunction.shift()?.()
      }
      signal('SIGCONT')
      for (const act of toFunction) act()
      // The rest of the API's, as it asks, and then it is let go.
      const isReleased = () => {
        moveApi()
        return isDone.api && out === undefined && !isToSendAgain && pending() !== undefined
      }
      if (role === 'internal' && fate === 'dies') {
        return // the rest is at the end
      }
      await until(`it asks for the event after that of ${requestId}`, isReleased)
      await rest()
      check()
    }

    for (const [index, plan] of invocations.entries()) {
      await theInvocation(plan, invocations[index - 1], index === invocations.length - 1)
    }

    // --- The end

    if (wordsOfLate !== undefined) expected.push(wordsOfLate)
    const descriptors = openFiles(pid)
    if (descriptors > 12) fail(`${descriptors} files are open`)
    isThere = false
    now.isFree = 'the environment ends'
    if (role === 'layer') {
      fn?.end()
      tell('-> SHUTDOWN')
      write(pending() as Socket, answerWith(shutdown))
    } else {
      fn?.end()
      // Where it waits for an event, it sees the end when that has come.
      const end = performance.now() + PATIENCE_MS
      while (hasEnded === undefined && performance.now() < end) {
        await rest()
        const socket = pending()
        if (hasEnded !== undefined || !socket) continue
        connectionOf(socket).unanswered--
        write(socket, answerWith(invoke('the-last')))
      }
    }
    const status = await Promise.race([
      companion.ended,
      new Promise<string>(resolve => setTimeout(resolve, PATIENCE_MS, 'nothing').unref()),
    ])
    if (status !== 0) fail(`it ended with ${status}`)
    const lines = companion.lines().map(line => (format === 'JSON' ? JSON.parse(line).message : line) as string)
    const ours = lines.filter(line => line.startsWith('middy-post-invoke: '))
    const words = lines.filter(line => !line.startsWith('middy-post-invoke: '))
    if (words.join('\n') !== expected.join('\n')) {
      fail(`it logged ${JSON.stringify(words)} where ${JSON.stringify(expected)} had to be said`)
    }
    if (ours.length > badAnswers) fail(`it complained: ${JSON.stringify(ours)}`)
    if (ours.some(line => !/: The next event cannot be had \(.*\), asking again$/.test(line))) {
      fail(`it complained of something else: ${JSON.stringify(ours)}`)
    }
    check()
  }

  return { all, told, counts }
}

/** How many files a process has open: none, where it has ended. */
const openFiles = (pid: number): number => {
  try {
    return readdirSync(`/proc/${pid}/fd`).length
  } catch {
    return 0
  }
}
