// The middleware and real Middy with the variables of Lambda, but no runtime client and no companion: what is left then.
import fs from 'node:fs'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import middy from '@middy/core'
import fc from 'fast-check'
import postInvoke, { type Context, defer, type Options } from '../../src/index.ts'
import { version } from '../../src/version.ts'
import { lambdaContext, thrownBy, turn, turns, until } from './helpers.ts'

const logged = {
  debug: jest.spyOn(console, 'debug'),
  warn: jest.spyOn(console, 'warn'),
  error: jest.spyOn(console, 'error'),
}
// The middleware ends a process that exits in the middle of things; here that would be the one of these tests.
const kill = jest.spyOn(process, 'kill').mockReturnValue(true)
const exitListeners: (() => void)[] = []
const on = process.on.bind(process)
jest.spyOn(process, 'on').mockImplementation((event: any, listener: any) => {
  if (event === 'exit') exitListeners.push(listener)
  else on(event, listener)
  return process
})

const SHARED = Symbol.for(`middy-post-invoke/${version}`)

/** Begins as a new environment of Lambda would. */
const startWith = (variables: Record<string, string>) => {
  delete (globalThis as any)[SHARED]
  for (const name of Object.keys(process.env)) {
    if (name.startsWith('POST_INVOKE_') || name.startsWith('AWS_LAMBDA_')) delete process.env[name]
  }
  Object.assign(process.env, { AWS_LAMBDA_RUNTIME_API: '127.0.0.1:1', ...variables })
}

beforeEach(() => {
  for (const spy of Object.values(logged)) spy.mockReset()
  kill.mockClear()
  exitListeners.length = 0
})

afterEach(() => turns(10))

const never = () => new Promise<never>(() => {})

type Event = Record<string, any>
const handlerWith = (handle: (event: Event, context: Context) => any, options?: Options) =>
  middy<Event, any>({ timeoutEarlyInMillis: 0 })
    .use(postInvoke(options))
    .handler(async (event, context) => handle(event, context as Context))

describe('without a companion', () => {
  beforeEach(() => startWith({ POST_INVOKE_COMPANION: 'off' }))

  it.each([
    [undefined, ['b ended', 'a ended', 'answered']],
    ['await', ['b ended', 'a ended', 'answered']],
    ['detach', ['answered', 'b ended', 'a ended']],
  ] as const)('withoutCompanion %s', async (withoutCompanion, expected) => {
    const order: string[] = []
    const handler = handlerWith(
      (_event, context) => {
        for (const name of ['a', 'b']) context.defer(() => turns(3).then(() => void order.push(`${name} ended`)))
        return 'answer'
      },
      { withoutCompanion },
    )
    expect(await handler({}, lambdaContext()).finally(() => order.push('answered'))).toBe('answer')
    await until(() => order.length === 3)
    expect(order).toEqual(expected)
  })

  it('withoutCompanion throw fails the invocation before the handler runs', async () => {
    const handle = jest.fn()
    const handler = handlerWith(handle, { withoutCompanion: 'throw' })
    await expect(handler({}, lambdaContext())).rejects.toMatchObject({
      name: 'PostInvokeError',
      code: 'ERR_NO_COMPANION',
      message: 'Expected a companion, got none.',
      cause: { package: 'middy-post-invoke' },
    })
    expect(handle).not.toHaveBeenCalled()
  })

  it('tasks are awaited before an error is thrown, too', async () => {
    const order: string[] = []
    const handler = handlerWith((_event, context) => {
      context.defer(({ outcome }) => turns(3).then(() => void order.push(outcome)))
      throw new Error('handler')
    })
    await expect(handler({}, lambdaContext()).finally(() => order.push('answered'))).rejects.toThrow('handler')
    expect(order).toEqual(['error', 'answered'])
  })

  it('the outcome that a task sees before the answer is that of the handler', async () => {
    const outcomes: string[] = []
    const handler = handlerWith((_event, context) => context.defer(({ outcome }) => void outcomes.push(outcome)))
    await handler({}, lambdaContext())
    expect(outcomes).toEqual(['success'])
  })

  it('a failing task costs the answer nothing', async () => {
    const handler = handlerWith((_event, context) => {
      context.defer(() => Promise.reject(new Error('rejected')), { name: 'bad' })
      return 'answer'
    })
    expect(await handler({}, lambdaContext('r1'))).toBe('answer')
    expect(logged.error.mock.calls).toEqual([
      ['middy-post-invoke: task "bad" of request r1 failed:', new Error('rejected')],
    ])
  })

  it('a task that never ends costs the answer no more than the time to the deadline', async () => {
    let hasBegun = false
    const handler = handlerWith(
      (_event, context) => {
        context.defer(
          () => {
            hasBegun = true
            return never()
          },
          { name: 'endless' },
        )
        return 'answer'
      },
      { deadlineMargin: 9_900 },
    )
    // On a busy machine it may not begin within the 100 ms that are left for it: then it is done again.
    while (!hasBegun) {
      logged.error.mockClear()
      const end = Date.now() + 10_000
      const context = lambdaContext('r1', () => end - Date.now())
      expect(await handler({}, context)).toBe('answer')
      expect(Date.now()).toBeLessThan(end)
    }
    expect(logged.error.mock.calls.map(([, error]) => (error as any).code)).toEqual(['ERR_TASK_DEADLINE'])
  })

  it('what is deferred after our hooks, or by an early return, runs all the same', async () => {
    const ran: string[] = []
    const handler = middy<Event, any>()
      .use({ after: (request: any) => request.context.defer(() => void ran.push('outer after')) })
      .use(postInvoke())
      .use({
        before: (request: any) => {
          request.context.defer(() => void ran.push('before'))
          return request.event.early
        },
      })
      .handler(async () => 'answer')
    expect(await handler({}, lambdaContext('r1'))).toBe('answer')
    await until(() => ran.length === 2)
    expect(ran).toEqual(['before', 'outer after'])
    expect(await handler({ early: 'early' }, lambdaContext('r2'))).toBe('early')
    await until(() => ran.length === 3)
  })

  it('never runs more than `concurrency` at a time, also of handlers that end together', async () => {
    let running = 0
    let most = 0
    let ended = 0
    const task = async () => {
      most = Math.max(most, ++running)
      await turns(2)
      running--
      ended++
    }
    const inner = handlerWith((_event, context) => {
      for (let index = 0; index < 3; index++) context.defer(task)
    })
    const outer = handlerWith((_event, context) => Promise.all([inner({}, context), inner({}, context)]))
    await outer({}, lambdaContext())
    await until(() => ended === 6)
    expect(most).toBe(1)
  })
})

describe('handlers within one invocation', () => {
  beforeEach(() => startWith({ AWS_LAMBDA_MAX_CONCURRENCY: '8' }))

  it('share it: the outer one can still defer when the inner one has ended', async () => {
    const ran: string[] = []
    const inner = handlerWith((_event, context) => context.defer(() => void ran.push('inner')))
    const outer = handlerWith(async (_event, context) => {
      await inner({}, context)
      await turns(20)
      expect(ran).toEqual([])
      context.defer(() => void ran.push('outer'))
      defer(() => void ran.push('imported'))
      return 'answer'
    })
    expect(await outer({}, lambdaContext())).toBe('answer')
    expect(ran).toEqual([])
    await until(() => ran.length === 3)
    expect(ran).toEqual(['imported', 'outer', 'inner'])
  })

  it('have the outcome of the outermost, which may have dealt with an error of the inner one', async () => {
    const outcomes: string[] = []
    const inner = handlerWith(() => {
      throw new Error('inner')
    })
    const outer = handlerWith(async (_event, context) => {
      context.defer(({ outcome, error }) => void outcomes.push(`${outcome} ${error}`))
      return inner({}, context).catch(() => 'answer')
    })
    expect(await outer({}, lambdaContext())).toBe('answer')
    await until(() => outcomes.length === 1)
    expect(outcomes).toEqual(['success undefined'])
  })

  it('settle once, and then it is over for all of them', async () => {
    let kept: Context | undefined
    const inner = handlerWith((_event, context) => {
      kept = context
    })
    const outer = handlerWith((_event, context) => inner({}, context))
    await outer({}, lambdaContext())
    await turns(20)
    expect(thrownBy(() => kept?.defer(() => {}))).toMatchObject({ code: 'ERR_NO_INVOCATION' })
  })

  it('and a retry with the same request id is a new one', async () => {
    const ran: string[] = []
    const handler = handlerWith((event, context) => context.defer(() => void ran.push(event.attempt)))
    await handler({ attempt: 'first' }, lambdaContext('same'))
    await until(() => ran.length === 1)
    await turns(20)
    await handler({ attempt: 'second' }, lambdaContext('same'))
    await until(() => ran.length === 2)
    expect(ran).toEqual(['first', 'second'])
  })
})

describe('Managed Instances', () => {
  beforeEach(() => startWith({ AWS_LAMBDA_MAX_CONCURRENCY: '8' }))

  it('need no companion: tasks run after the answer, not even "throw" throws', async () => {
    const order: string[] = []
    const handler = handlerWith((_event, context) => context.defer(() => void order.push('task')), {
      withoutCompanion: 'throw',
    })
    await handler({}, lambdaContext())
    order.push('answered')
    await until(() => order.length === 2)
    expect(order).toEqual(['answered', 'task'])
    expect(logged.warn).not.toHaveBeenCalled()
  })

  it('run many invocations at once, each with its own tasks, each exactly once', async () => {
    const invocation = fc.record({
      pace: fc.integer({ min: 0, max: 5 }),
      tasks: fc.array(
        fc.record({ pace: fc.integer({ min: 0, max: 4 }), nests: fc.boolean(), imported: fc.boolean() }),
        { maxLength: 4 },
      ),
    })
    await fc.assert(
      fc.asyncProperty(
        fc.array(invocation, { minLength: 2, maxLength: 6 }),
        fc.integer({ min: 1, max: 3 }),
        async (invocations, concurrency) => {
          const runs = new Map<string, number>()
          const strangers: string[] = []
          const handler = handlerWith(
            async (event, context) => {
              for (const [index, spec] of event.tasks.entries()) {
                await turns(event.pace)
                const act =
                  (name: string, nests: boolean) =>
                  async ({ awsRequestId }: any) => {
                    runs.set(name, (runs.get(name) ?? 0) + 1)
                    if (awsRequestId !== context.awsRequestId) strangers.push(name)
                    await turns(spec.pace)
                    if (nests) defer(act(`${name} nested`, false))
                  }
                const add = spec.imported ? defer : context.defer
                add(act(`${context.awsRequestId} ${index}`, spec.nests))
              }
            },
            { concurrency },
          )
          await Promise.all(invocations.map((given, index) => handler(given, lambdaContext(`r${index}`))))
          const expected = invocations
            .flatMap(({ tasks }) => tasks)
            .reduce((sum, { nests }) => sum + (nests ? 2 : 1), 0)
          await until(() => runs.size === expected)
          await turns(10)
          expect([...runs.values()].every(times => times === 1)).toBe(true)
          expect(strangers).toEqual([])
        },
      ),
      { numRuns: 50 },
    )
  })
})

describe('when the process exits', () => {
  /** What it writes then, synchronously and past the console: what is written later is lost. */
  const exit = (): string[] => {
    const lines: string[] = []
    const write = jest.spyOn(fs, 'writeSync').mockImplementation(((fd: number, data: Buffer) => {
      lines.push(`${fd} ${data}`)
      return data.length
    }) as any)
    for (const listener of exitListeners) listener()
    write.mockRestore()
    return lines
  }

  it('nothing is listened for until something is deferred, and then once', async () => {
    startWith({ POST_INVOKE_COMPANION: 'off' })
    const handler = handlerWith((event, context) => void (event.defers && context.defer(() => {})), {
      withoutCompanion: 'detach',
    })
    await handler({}, lambdaContext())
    expect(exitListeners).toHaveLength(0)
    await handler({ defers: true }, lambdaContext())
    await handler({ defers: true }, lambdaContext('r2'))
    expect(exitListeners).toHaveLength(1)
    await turns(20)
  })

  it('the tasks that are lost are named', async () => {
    startWith({ POST_INVOKE_COMPANION: 'off' })
    const handler = handlerWith(
      (_event, context) => {
        context.defer(() => {}, { name: 'waiting' })
        context.defer(never, { name: 'running', timeout: 200 })
      },
      { withoutCompanion: 'detach' },
    )
    await handler({}, lambdaContext('r1'))
    await turns(20)
    expect(exit()).toEqual([
      '2 middy-post-invoke: the process ends in the middle of request r1; unfinished: "running", "waiting"\n',
    ])
    expect(kill).not.toHaveBeenCalled() // of a client that tells nothing it is not known whether it waits
    await until(() => logged.error.mock.calls.length === 1)
  })

  it('in the middle of a handler, the client says what happened: it is not killed', async () => {
    startWith({ POST_INVOKE_COMPANION: 'off' })
    let lines: string[] = []
    const handler = handlerWith(async (_event, context) => {
      context.defer(() => {}, { name: 'waiting' })
      await turn()
      lines = exit()
    })
    await handler({}, lambdaContext('r1'))
    expect(lines).toEqual([
      '2 middy-post-invoke: the process ends in the middle of request r1; unfinished: "waiting"\n',
    ])
    expect(kill).not.toHaveBeenCalled()
  })

  it('many lost tasks are named in part', async () => {
    startWith({ POST_INVOKE_COMPANION: 'off' })
    let lines: string[] = []
    const handler = handlerWith(async (_event, context) => {
      for (let index = 0; index < 60; index++) context.defer(() => {}, { name: 't' })
      lines = exit()
    })
    await handler({}, lambdaContext('r1'))
    expect(lines).toEqual([expect.stringMatching(/unfinished: ("t", ){49}"t" and 10 more\n$/)])
  })

  it('it is not killed on Managed Instances, where others are being served', async () => {
    startWith({ AWS_LAMBDA_MAX_CONCURRENCY: '8' })
    const handler = handlerWith((_event, context) => context.defer(() => {}))
    await handler({}, lambdaContext())
    await turns(20)
    exit()
    expect(exitListeners).toHaveLength(1)
    expect(kill).not.toHaveBeenCalled()
  })
})

describe('a wrong variable', () => {
  it.each([
    ['POST_INVOKE_COMPANION', 'layers'],
    ['POST_INVOKE_LOG_LEVEL', 'LOUD'],
  ])('%s is an error at init, each time', (name, value) => {
    startWith({ [name]: value })
    for (let time = 0; time < 2; time++) {
      expect(thrownBy(() => postInvoke())).toMatchObject({ name: 'PostInvokeError', code: 'ERR_INVALID_VARIABLE' })
    }
  })

  it('POST_INVOKE_FOLDER is one where the layer is asked for', () => {
    startWith({ POST_INVOKE_COMPANION: 'layer', POST_INVOKE_FOLDER: 'relative' })
    expect(thrownBy(() => postInvoke())).toMatchObject({ name: 'PostInvokeError', code: 'ERR_INVALID_VARIABLE' })
  })
})

describe('POST_INVOKE_LOG_LEVEL', () => {
  it.each([
    ['DEBUG', 1, 1],
    ['WARN', 0, 1],
    ['ERROR', 0, 1],
    ['SILENT', 0, 0],
  ])('%s', async (level, debug, error) => {
    startWith({ POST_INVOKE_COMPANION: 'off', POST_INVOKE_LOG_LEVEL: level })
    const handler = handlerWith((_event, context) => context.defer(() => Promise.reject(new Error('rejected'))))
    await handler({}, lambdaContext())
    expect(logged.debug.mock.calls).toHaveLength(debug)
    expect(logged.error.mock.calls).toHaveLength(error)
    if (debug) expect(logged.debug).toHaveBeenCalledWith('middy-post-invoke: companion: none')
  })
})
