// Which companion is chosen, and what it is told: with real pipes, and for the internal extension a real bash.
import childProcess, { type ChildProcess } from 'node:child_process'
import fs from 'node:fs'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import { createLog } from '../../src/log.ts'
import { chooseCompanion } from '../../src/middleware/companion.ts'
import { PROTOCOL, registerForSigterm } from '../../src/middleware/companion-pipe.ts'
import type { Companion } from '../../src/middleware/companion-process.ts'
import type { CompanionMode } from '../../src/variables.ts'
import { version } from '../../src/version.ts'
import { type ApiThread, startApiThread } from '../support/extensions-api-thread.ts'
import { recordLog, thrownBy, until } from './helpers.ts'
import { type PipeReader, startPipeReader, temporaryFolder } from './pipe-reader.ts'

const API = '127.0.0.1:9001'
const OWNER = Symbol.for('middy-post-invoke/companion')
const globals = globalThis as any

let folder: string
let layer: PipeReader | undefined
let clock: jest.SpiedFunction<typeof Date.now>
const kill = jest.spyOn(process, 'kill').mockReturnValue(true)

beforeEach(() => {
  folder = temporaryFolder()
  kill.mockClear()
  clock = jest.spyOn(Date, 'now')
  delete globals[OWNER]
})

afterEach(() => {
  clock.mockRestore()
  layer?.close()
  layer = undefined
  fs.rmSync(folder, { recursive: true, force: true })
  delete globals[OWNER]
  for (const name of ['AWS_LAMBDA_LOG_FORMAT', 'POST_INVOKE_LOG_LEVEL', 'POST_INVOKE_FOLDER']) delete process.env[name]
})

type Given = {
  mode?: CompanionMode
  hasGate?: boolean
  tellsEnds?: boolean
  isMainThread?: boolean
  /** None: nothing is ever frozen. */
  api?: string | undefined
  folder?: string
}

const choose = (given: Given = {}) => {
  const { mode = 'auto', hasGate = false, tellsEnds = true, isMainThread = true } = given
  const log = recordLog()
  process.env.POST_INVOKE_FOLDER = given.folder ?? folder
  const api = 'api' in given ? given.api : API
  const { line } = createLog()
  const client = { ...(hasGate && { isGated: () => true }), ...(tellsEnds && { runOf: () => undefined }) }
  const companion = chooseCompanion({ ...log, line }, client, isMainThread, api, mode)
  return { companion, log }
}

const startLayer = (protocol?: number) => {
  layer = startPipeReader(API, folder, protocol)
  return layer
}

/** As where the layer is attached. */
const attachLayer = () => {
  const { existsSync } = fs
  return jest
    .spyOn(fs, 'existsSync')
    .mockImplementation(path => path === '/opt/extensions/post-invoke' || existsSync(path))
}

const tell = (companion: Companion, requestId: string, tenantId?: string) => {
  const reporter = companion.reporter?.(requestId, tenantId)
  if (!reporter) throw new Error('It need be told nothing')
  return reporter
}

describe('without a need for one', () => {
  it('nobody is told of anything', () => {
    startLayer()
    const { companion, log } = choose({ api: undefined })
    expect(companion).toEqual({ name: 'none' })
    expect(layer?.lines()).toEqual([])
    expect(log.lines).toEqual([])
  })
})

describe('where none can be had', () => {
  it('by POST_INVOKE_COMPANION=off nothing holds, not even the gate, and nothing is said', () => {
    startLayer()
    const { companion, log } = choose({ mode: 'off', hasGate: true })
    expect(companion).toEqual({ name: 'none' })
    expect(log.lines).toEqual([])
    expect(layer?.lines()).toEqual([])
  })

  it('in a worker thread nothing holds, of which is to be warned once there is an invocation', () => {
    const { companion, log } = choose({ isMainThread: false, hasGate: true })
    expect(log.lines).toEqual([])
    expect(companion).toEqual({ name: 'none', warnUnheld: expect.any(Function) })
    for (let time = 0; time < 2; time++) companion.warnUnheld?.()
    expect(log.of('warn')).toEqual(['a worker thread has no companion'])
    expect(log.codes).toEqual(['WARN_WORKER_THREAD'])
  })

  it('POST_INVOKE_COMPANION=layer without it: nothing holds, and the reason is said', () => {
    const { companion, log } = choose({ mode: 'layer', hasGate: true })
    expect(companion).toEqual({ name: 'none' })
    expect(log.of('warn')).toEqual([
      expect.stringMatching(/^the layer's companion cannot be reached \(ENOENT: .*middy-post-invoke-1-9001'\)$/),
    ])
    expect(log.codes).toEqual(['WARN_NO_LAYER'])
  })

  it('a wrong folder is an error, and names the variable', () => {
    expect(thrownBy(() => choose({ folder: 'relative' }))).toMatchObject({
      code: 'ERR_INVALID_VARIABLE',
    })
  })
})

describe('the gate', () => {
  it.each(['auto', 'embedded'] as const)('holds where the client has one, by %s', mode => {
    const { companion, log } = choose({ mode, hasGate: true })
    expect(companion).toEqual({ name: 'gate', warnUnheld: expect.any(Function) })
    expect(log.lines).toEqual([])
    for (let time = 0; time < 2; time++) companion.warnUnheld?.()
    expect(log.of('warn')).toEqual(['this invocation runs outside InvokeStore.run'])
    expect(log.codes).toEqual(['WARN_GATE'])
  })

  it('is not asked where it is to be the embedded one beside a layer', () => {
    startLayer()
    expect(choose({ mode: 'embedded', hasGate: true }).companion.name).toBe('gate')
    expect(layer?.lines()).toEqual([])
  })
})

describe('the layer', () => {
  it.each<[string, Given, string]>([
    ['whose ends are told', { hasGate: true }, 'open'],
    ['whose ends are told, asked for', { mode: 'layer' }, 'open'],
    ['of which nothing is told', { tellsEnds: false }, 'watch'],
  ])('is taken before the gate, for invocations %s', (_, given, first) => {
    const reader = startLayer()
    const { companion, log } = choose(given)
    expect(companion).toMatchObject({ name: 'layer', reporter: expect.any(Function) })
    expect(companion.isGone?.()).toBe(false)
    expect(reader.lines()).toEqual([first])
    expect(log.lines).toEqual([])
  })

  it('is told of what is held and settled, with numbers in the order of its lines', () => {
    const reader = startLayer()
    const { companion } = choose()
    clock.mockReturnValue(0)
    const [first, second] = [tell(companion, 'r1'), tell(companion, 'r2')]
    second.hold(99)
    first.settle()
    second.settle()
    tell(companion, 'r3').settle()
    expect(reader.lines()).toEqual(['open', 'hold 1 99', 'settled 2 r1', 'settled 1 r2', 'settled 3 r3'])
  })

  it('is told whole milliseconds, and no more of a request id than is safe in a line', () => {
    const reader = startLayer()
    const { companion } = choose()
    clock.mockReturnValue(1_000)
    tell(companion, 'r1').hold(234.5)
    tell(companion, 'r1').hold(Number.POSITIVE_INFINITY)
    tell(companion, `${'a'.repeat(50)}`).settle()
    tell(companion, 'two words\nand a line').settle()
    tell(companion, '').settle()
    expect(reader.lines()).toEqual([
      'open',
      'hold 1 1235',
      'hold 2 901000',
      `settled 3 ${'a'.repeat(8)}`,
      'settled 4 two',
      'settled 5 ',
    ])
  })

  it('is told once that work is handed off', () => {
    const reader = startLayer()
    choose().companion.expectHandedOff?.()
    expect(reader.lines()).toEqual(['open', 'work'])
  })

  it('finds what would be lost in the file beside the pipe, as two finished lines', () => {
    const reader = startLayer()
    const { companion, log } = choose()
    const invocation = tell(companion, 'r1')
    invocation.wouldLose(['mail', 'Grüße'], '"mail", "Grüße"')
    expect(reader.lastWords()).toBe(
      `middy-post-invoke: the function's process ended in the middle of request r1; unfinished: "mail", "Grüße"
middy-post-invoke: released request r1 before its deadline; unfinished: "mail", "Grüße"
`,
    )
    invocation.wouldLose(['mail'], '"mail"')
    expect(reader.lastWords()).toMatch(/^.*unfinished: "mail"\n.*unfinished: "mail"\n$/)
    invocation.wouldLose([], '')
    expect(reader.lastWords()).toBe('')
    invocation.wouldLose(['mail'], '"mail"')
    invocation.settle()
    expect(reader.lastWords()).toBe('')
    expect(log.lines).toEqual([])
  })

  it('keeps what the next invocation would lose, where one that was let go ends after that has begun', () => {
    const reader = startLayer()
    const { companion } = choose()
    const [late, next] = [tell(companion, 'r1'), tell(companion, 'r2')]
    late.wouldLose(['old'], '"old"')
    next.wouldLose(['mail'], '"mail"')
    late.wouldLose([], '')
    late.settle()
    expect(reader.lastWords()).toMatch(/^.*request r2; unfinished: "mail"\n.*request r2 .*"mail"\n$/)
    next.settle()
    expect(reader.lastWords()).toBe('')
    expect(reader.lines()).toEqual(['open', 'settled 1 r1', 'settled 2 r2'])
  })

  it.each([
    ['', undefined],
    [', with the tenant', 'blue'],
  ])('finds them as JSON that lacks only the time, where the log is%s', (_, tenantId) => {
    process.env.AWS_LAMBDA_LOG_FORMAT = 'JSON'
    const reader = startLayer()
    tell(choose().companion, 'r1', tenantId).wouldLose(['mail'], '"mail"')
    const lines = reader.lastWords().split('\n')
    expect(lines).toHaveLength(3)
    for (const line of lines.slice(0, 2)) {
      expect(JSON.parse(line)).toEqual({
        level: 'ERROR',
        message: expect.stringMatching(/^middy-post-invoke: .* request r1.*; unfinished: "mail"$/),
        requestId: 'r1',
        ...(tenantId && { tenantId }),
        tasks: ['mail'],
      })
    }
  })

  it('finds none where errors are not logged', () => {
    process.env.POST_INVOKE_LOG_LEVEL = 'SILENT'
    const reader = startLayer()
    tell(choose().companion, 'r1').wouldLose(['mail'], '"mail"')
    expect(fs.existsSync(`${reader.path}.tasks`) ? reader.lastWords() : '').toBe('')
  })

  it('goes on where its file cannot be written, of which is warned once', () => {
    const reader = startLayer()
    const { companion, log } = choose()
    fs.mkdirSync(`${reader.path}.tasks`)
    const invocation = tell(companion, 'r1')
    for (const name of ['a', 'b']) invocation.wouldLose([name], `"${name}"`)
    invocation.settle()
    expect(reader.lines()).toEqual(['open', 'settled 1 r1'])
    expect(log.of('warn')).toEqual([expect.stringMatching(/^last words cannot be written \(EISDIR/)])
    expect(log.codes).toEqual(['WARN_LAST_WORDS'])
  })

  it('that dies holds no longer, of which is warned once; the process goes on', () => {
    const reader = startLayer()
    const { companion, log } = choose()
    reader.close()
    const invocation = tell(companion, 'r1')
    expect(() => {
      invocation.hold(0)
      invocation.settle()
    }).not.toThrow()
    expect(companion.isGone?.()).toBe(true)
    expect(log.of('warn')).toEqual(["the layer's companion is gone"])
    expect(log.codes).toEqual(['WARN_LAYER_GONE'])
    expect(kill).not.toHaveBeenCalled()
  })

  it.each([
    [PROTOCOL + 1, 'alone'],
    [PROTOCOL - 1, 'alone'],
    [PROTOCOL + 1, 'beside a pipe of this one that nobody reads'],
  ])('of another version is named, and an embedded companion holds instead: protocol %d, %s', (protocol, what) => {
    startLayer(protocol)
    if (what !== 'alone') childProcess.execFileSync('mkfifo', [`${folder}/.middy-post-invoke-${PROTOCOL}-9001`])
    const exists = attachLayer()
    const { companion, log } = choose({ hasGate: true })
    expect(companion.name).toBe('gate')
    expect(log.of('warn')).toEqual([`the layer speaks protocol ${protocol}, the package ${PROTOCOL}`])
    expect(log.codes).toEqual(['WARN_LAYER_VERSION'])
    exists.mockRestore()
  })

  it('cannot be reached where the folder is gone, or the address has no port: both are said', () => {
    for (const given of [{ folder: '/nowhere' }, { api: 'localhost' }]) {
      const { companion, log } = choose({ mode: 'layer', ...given })
      expect(companion).toEqual({ name: 'none' })
      expect(log.of('warn')).toEqual([expect.stringMatching(/^the layer's companion cannot be reached \(ENOENT/)])
    }
  })

  it.each<[string, () => unknown]>([
    ['of another environment', () => startPipeReader('127.0.0.1:19001', folder, PROTOCOL + 1)],
    ['of nobody', () => {}],
    ['that is no pipe of ours', () => fs.writeFileSync(`${folder}/.middy-post-invoke`, '')],
  ])('that is attached but cannot be reached is named, with the reason, beside a pipe %s', (_, prepare) => {
    const other = prepare() as PipeReader | undefined
    const exists = attachLayer()
    const { companion, log } = choose({ hasGate: true })
    expect(companion.name).toBe('gate')
    expect(log.of('warn')).toEqual([expect.stringMatching(/^the layer's companion cannot be reached \(ENOENT/)])
    expect(log.codes).toEqual(['WARN_NO_LAYER'])
    exists.mockRestore()
    other?.close?.()
  })

  it('is not looked for any further where it is not attached', () => {
    const { log } = choose({ hasGate: true })
    expect(log.lines).toEqual([])
  })

  it('is left to the version of this package that has it: nothing holds here', () => {
    const reader = startLayer()
    globals[OWNER] = '0.0.1'
    const { companion, log } = choose({ hasGate: true })
    expect(companion).toEqual({ name: 'none' })
    expect(reader.lines()).toEqual([])
    expect(log.of('warn')).toEqual([`version 0.0.1 in the same process uses the companion, not ${version}`])
    expect(log.codes).toEqual(['WARN_TWO_VERSIONS'])
  })
})

describe('the internal extension', () => {
  let api: ApiThread
  let child: ChildProcess | undefined
  afterEach(async () => {
    child?.kill('SIGKILL')
    child = undefined
    await api?.close()
  })

  const begin = async (given: Given = {}, status = 200) => {
    api = await startApiThread(status)
    process.env.POST_INVOKE_FOLDER = folder
    const { spawn } = childProcess
    const spy = jest.spyOn(childProcess, 'spawn').mockImplementation(((...args: Parameters<typeof spawn>) => {
      child = spawn(...args)
      return child
    }) as any)
    using _ = { [Symbol.dispose]: () => spy.mockRestore() }
    return choose({ mode: 'internal', api: api.address, ...given })
  }

  it.each<[string, Given]>([
    ['by POST_INVOKE_COMPANION, though there is a gate', { hasGate: true }],
    ['without a gate, embedded', { mode: 'embedded' }],
    ['without a gate and a layer', { mode: 'auto' }],
  ])('holds %s', async (_, given) => {
    const write = jest.spyOn(fs, 'writeSync')
    const { companion, log } = await begin(given)
    expect(companion).toMatchObject({ name: 'internal', reporter: expect.any(Function) })
    expect(companion.isGone?.()).toBe(false)
    expect(log.lines).toEqual([])
    write.mockClear()
    companion.expectHandedOff?.() // it runs none, and is not told
    expect(write).not.toHaveBeenCalled()
    api.answer({ eventType: 'INVOKE', deadlineMs: Date.now() + 60_000, requestId: 'r1' })
    const invocation = tell(companion, 'r1')
    invocation.hold(60_000)
    invocation.settle()
    await until(() => api.requests.length === 3)
    expect(api.requests[0]).toBe('POST /2020-01-01/extension/register {"events":["INVOKE"]}')
    expect(api.requests.slice(1)).toEqual(Array(2).fill('GET /2020-01-01/extension/event/next'))
    write.mockRestore()
  })

  it('that Lambda refuses is none, and the reason is said', async () => {
    const { companion, log } = await begin({}, 403)
    expect(companion).toEqual({ name: 'none' })
    expect(log.of('warn')).toEqual([expect.stringMatching(/^no internal extension could be registered \(failed 403 /)])
    expect(log.codes).toEqual(['WARN_NOT_REGISTERED'])
  })

  it('is not started beside another version of this package that has one', async () => {
    globals[OWNER] = '0.0.1'
    const { companion, log } = await begin()
    expect(companion.name).toBe('none')
    expect(api.requests).toEqual([])
    expect(log.of('warn')).toEqual([expect.stringContaining('version 0.0.1 in the same process')])
  })

  it('is started once more by a copy of the same version', async () => {
    globals[OWNER] = version
    expect((await begin()).companion.name).toBe('internal')
  })

  it('that dies holds no longer; the process ends itself, but only after its next answer', async () => {
    const { companion, log } = await begin()
    child?.kill('SIGKILL')
    await until(() => companion.isGone?.() === true)
    expect(log.of('warn')).toEqual(['the internal extension is gone: this process ends after its next answer'])
    expect(log.codes).toEqual(['WARN_INTERNAL_GONE'])
    expect(kill).not.toHaveBeenCalled()
    tell(companion, 'r1').hold(0)
    expect(kill).not.toHaveBeenCalled()
    tell(companion, 'r1').settle()
    expect(kill.mock.calls).toEqual([[process.pid, 'SIGKILL']])
  })

  it('that dies has the process end itself only where the client tells that the answer has left', async () => {
    const { companion } = await begin({ tellsEnds: false })
    child?.kill('SIGKILL')
    await until(() => companion.isGone?.() === true)
    tell(companion, 'r1').settle()
    expect(kill).not.toHaveBeenCalled()
  })

  it('can be there for SIGTERM alone: it registers for no events, or says why not', async () => {
    await begin()
    child?.kill('SIGKILL')
    expect(registerForSigterm(api.address)).toBe('')
    await until(() => api.requests.some(request => request.endsWith('{"events":[]}')))
    await api.close()
    expect(registerForSigterm(api.address)).toMatch(/^failed /)
  })
})
