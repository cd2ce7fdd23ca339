// The function's process as a whole, with RIC 4's globals, which are played here: what its runtime client waits for, and
// how it ends at SIGTERM.
import { AsyncLocalStorage } from 'node:async_hooks'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals'
import middy from '@middy/core'
import postInvoke, { type Context, defer, onShutdown } from '../../src/index.ts'
import { version } from '../../src/version.ts'
import { lambdaContext, turns, until } from './helpers.ts'
import { type PipeReader, startPipeReader } from './pipe-reader.ts'

const globals = globalThis as any
const SHARED = Symbol.for(`middy-post-invoke/${version}`)
const STORE_REQUEST_ID = Symbol.for('_AWS_LAMBDA_REQUEST_ID')

const logged = { warn: jest.spyOn(console, 'warn'), error: jest.spyOn(console, 'error') }
// It ends its own process, which here would be the one of these tests.
const kill = jest.spyOn(process, 'kill').mockReturnValue(true)
let count = 0
let layer: PipeReader | undefined

const variables = () =>
  Object.keys(process.env).filter(name => name.startsWith('POST_INVOKE_') || name.startsWith('AWS_LAMBDA_'))

beforeEach(() => {
  for (const spy of Object.values(logged)) spy.mockReset()
  kill.mockClear()
})

afterEach(async () => {
  await turns(10)
  layer?.close()
  layer = undefined
  process.removeAllListeners('SIGTERM')
  process.removeAllListeners('exit')
  delete globals.awslambda
  for (const name of variables()) delete process.env[name]
})

/** Begins as a new environment of nodejs24.x would, and gives what runs an invocation there. */
const startWith = (given: Record<string, string>) => {
  delete globals[SHARED]
  for (const name of variables()) delete process.env[name]
  const runtimeApi = `127.0.0.1:${process.pid}${++count}`
  Object.assign(process.env, { AWS_LAMBDA_RUNTIME_API: runtimeApi, ...given })
  if (given.POST_INVOKE_COMPANION === 'layer') {
    layer = startPipeReader(runtimeApi)
    process.env.POST_INVOKE_FOLDER = layer.folder
  }
  let context: any
  globals.awslambda = {
    streamifyResponse() {},
    InvokeStore: {
      run(next: any, fn: () => unknown) {
        context = next
        return fn()
      },
      getRequestId: () => context?.[STORE_REQUEST_ID],
    },
  }
  return (requestId: string, fn: () => Promise<unknown>): Promise<unknown> =>
    globals.awslambda.InvokeStore.run({ [STORE_REQUEST_ID]: requestId }, fn)
}

const handlerOf = (handle: (event: any, context: Context) => unknown) =>
  middy<any, any>({ timeoutEarlyInMillis: 0 })
    .use(postInvoke())
    .handler(async (event, context) => handle(event, context as Context))

/** What the layer has been told since this was last asked, without deadlines. */
const layerLines = () => layer?.lines().map(line => line.replace(/^(hold \d+) \d+$/, '$1'))

describe('the promise that the runtime client awaits before it asks for the next invocation', () => {
  it.each([
    ['embedded', ['task', 'next']],
    // The layer holds the environment: the client asks at once, as it does without us.
    ['layer', ['next', 'task']],
  ])('waits for the tasks under the gate alone: %s', async (companion, expected) => {
    const run = startWith({ POST_INVOKE_COMPANION: companion })
    const order: string[] = []
    const task = Promise.withResolvers<void>()
    const handler = handlerOf((_event, context) => context.defer(() => task.promise.then(() => order.push('task'))))
    const next = run('r1', () => handler({}, lambdaContext('r1'))).then(() => order.push('next'))
    await turns(20)
    if (companion === 'layer') await next
    expect(order).toEqual(companion === 'layer' ? ['next'] : [])
    task.resolve()
    await until(() => order.length === 2)
    expect(order).toEqual(expected)
  })

  it.each([
    ['embedded', ['task', 'next'], []],
    ['layer', ['next', 'task'], ['open', 'hold 1', 'settled 1 r1']],
  ])(
    'is that of the request also where a handler has lost its async context: %s',
    async (companion, expected, told) => {
      const outside = AsyncLocalStorage.snapshot()
      const run = startWith({ POST_INVOKE_COMPANION: companion })
      const order: string[] = []
      const handler = middy<any, any>()
        .use(postInvoke())
        .handler(async (_event, context) => {
          ;(context as Context).defer(() => turns(5).then(() => void order.push('task')))
          defer(() => {}) // which has its own way to the invocation
        })
      await run('r1', () => outside(() => handler({}, lambdaContext('r1')))).then(() => order.push('next'))
      await until(() => order.length === 2)
      expect(order).toEqual(expected)
      await turns(10)
      expect(layerLines() ?? []).toEqual(told)
      expect(logged.warn).not.toHaveBeenCalled()
    },
  )

  it('does not hold an invocation outside of it: the answer waits, of which is warned once', async () => {
    const run = startWith({ POST_INVOKE_COMPANION: 'embedded' })
    const order: string[] = []
    const handler = middy<any, any>()
      .use(postInvoke())
      .handler(async (_event, context) => {
        ;(context as Context).defer(() => turns(3).then(() => void order.push('task')))
      })
    await run('r1', () => handler({}, lambdaContext('r1')).then(() => order.push('answer')))
    for (const id of ['r2', 'r3']) await handler({}, lambdaContext(id)).then(() => order.push('answer'))
    expect(order).toEqual(['answer', 'task', 'task', 'answer', 'task', 'answer'])
    const warning = 'middy-post-invoke: WARN_GATE, this invocation runs outside InvokeStore.run'
    expect(logged.warn.mock.calls).toEqual([[warning]])
  })

  it('does not hold in a worker thread, of which is warned once there is an invocation', async () => {
    const chdir = jest.spyOn(process, 'chdir').mockImplementation(() => {
      throw Object.assign(new Error('process.chdir()'), { code: 'ERR_WORKER_UNSUPPORTED_OPERATION' })
    })
    const run = startWith({ POST_INVOKE_COMPANION: 'embedded' })
    const order: string[] = []
    const handler = middy<any, any>()
      .use(postInvoke())
      .handler(async (_event, context) => {
        ;(context as Context).defer(() => turns(3).then(() => void order.push('task')))
      })
    chdir.mockRestore()
    expect(logged.warn).not.toHaveBeenCalled()
    for (const id of ['r1', 'r2']) await run(id, () => handler({}, lambdaContext(id)).then(() => order.push('answer')))
    expect(order).toEqual(['task', 'answer', 'task', 'answer'])
    expect(logged.warn.mock.calls).toEqual([
      ['middy-post-invoke: WARN_WORKER_THREAD, a worker thread has no companion'],
    ])
  })

  it('does not hold a second run of a request whose first one it should have waited for', async () => {
    const run = startWith({ POST_INVOKE_COMPANION: 'embedded' })
    const order: string[] = []
    const tasks: (() => void)[] = []
    const handler = middy<any, any>()
      .use(postInvoke())
      .handler(async (_event, context) => {
        ;(context as Context).defer(() => new Promise<void>(resolve => tasks.push(resolve)))
        return 'answer'
      })
    const runs = ['first', 'second'].map(async name => {
      if (name === 'second') await until(() => tasks.length === 1)
      await run('r1', () => handler({}, lambdaContext('r1')).finally(() => order.push(`${name} answered`)))
      order.push(`${name} is over`)
    })
    await until(() => tasks.length === 2)
    expect(order).toEqual(['first answered'])
    tasks[1]?.()
    await runs[1]
    expect(order).toEqual(['first answered', 'second answered', 'second is over'])
    tasks[0]?.()
    await runs[0]
    expect(logged.warn.mock.calls.map(([line]) => String(line).slice(0, 28))).toEqual(['middy-post-invoke: WARN_GATE'])
  })

  it('is the end of its request for the layer, also where the handler was given another id', async () => {
    const run = startWith({ POST_INVOKE_COMPANION: 'layer' })
    const task = jest.fn()
    const handler = middy<any, any>()
      .use(postInvoke())
      .handler(async (_event, context) => void (context as Context).defer(task))
    await run('r1', () => handler({}, lambdaContext('made-up')))
    await until(() => task.mock.calls.length === 1)
    await turns(10)
    const settled = layer?.lines().filter(line => line.startsWith('settled'))
    // The request's own comes last, for that is what releases.
    expect(settled).toEqual(['settled 1 made-up', 'settled 2 r1'])
  })

  it('is told under one number where we are first used in it, though at once and as its hooks end', async () => {
    const run = startWith({ POST_INVOKE_COMPANION: 'layer' })
    globals.awslambda.InvokeStore.hasContext = () => true
    let handler: ((event: any, context: any) => Promise<unknown>) | undefined
    const handle = (id: string) => async () => {
      handler ??= middy<any, any>()
        .use(postInvoke())
        .handler(async (_event, context) => void (context as Context).defer(() => {})) as any
      return handler?.({}, lambdaContext(id))
    }
    const told: string[] = []
    const isTold = (last: string) => {
      told.push(...(layerLines() ?? []))
      return told.at(-1) === last && told.length >= 3
    }
    await run('r1', handle('r1'))
    await until(() => isTold('settled 1 r1'))
    await run('r2', handle('r2'))
    await until(() => isTold('settled 2 r2'))
    // The script ignores what is not above the number that it released last.
    expect(told).toEqual(['open', 'settled 1 r1', 'settled 1 r1', 'hold 2', 'settled 2 r2'])
  })

  it('has its tasks awaited before the answer once the companion of the layer is gone', async () => {
    const run = startWith({ POST_INVOKE_COMPANION: 'layer' })
    const order: string[] = []
    const handler = handlerOf((_event, context) => context.defer(() => void order.push('task')))
    const answer = async (id: string) => {
      await run(id, () => handler({}, lambdaContext(id)))
      order.push('answer')
      await turns(10)
    }
    await answer('r1')
    expect(order.splice(0)).toEqual(['answer', 'task'])
    layer?.close()
    await answer('r2') // as it ends, the pipe turns out to be broken
    order.length = 0
    await answer('r3')
    expect(order).toEqual(['task', 'answer'])
    expect(logged.warn).toHaveBeenCalledWith(expect.stringContaining('WARN_LAYER_GONE'))
  })

  it('waits for a handler that a task calls with the context of its own', async () => {
    const run = startWith({ POST_INVOKE_COMPANION: 'layer' })
    const order: string[] = []
    const inner = handlerOf((_event, context) => context.defer(() => void order.push('task of the inner handler')))
    const handler = handlerOf((_event, context) =>
      context.defer(async () => {
        await inner({}, context)
        await turns(10)
        order.push('task')
      }),
    )
    await run('r1', () => handler({}, lambdaContext('r1')))
    await until(() => order.length === 2)
    expect(order).toEqual(['task', 'task of the inner handler'])
    await turns(10)
    expect(layerLines()).toEqual(['open', 'hold 1', 'settled 1 r1'])
    expect(logged.warn).not.toHaveBeenCalled()
  })

  describe('waits for a stream that its handler has left behind', () => {
    let server: http.Server | undefined
    afterEach(() => {
      server?.closeAllConnections()
      server?.close()
    })

    /** The Runtime API, which accepts a response when it is told to. */
    const startApi = async () => {
      const accepts: (() => void)[] = []
      server = http.createServer((request, response) => {
        request.resume().on('end', () => accepts.push(() => response.writeHead(202).end()))
      })
      await new Promise<void>(resolve => server?.listen(0, '127.0.0.1', resolve))
      const { port } = server.address() as AddressInfo
      return {
        accepts,
        post: (requestId: string) => {
          const request = http.request({
            ...{ host: '127.0.0.1', port, method: 'POST', agent: false },
            path: `/2018-06-01/runtime/invocation/${requestId}/response`,
            headers: { 'Lambda-Runtime-Function-Response-Mode': 'streaming' },
          })
          request.on('response', response => response.resume())
          request.end('chunk')
        },
      }
    }

    it.each([
      ['of the middleware', true],
      ['that never reached it', false],
    ])('in an invocation %s, also when its id comes again', async (_, reaches) => {
      const api = await startApi()
      const run = startWith({ POST_INVOKE_COMPANION: 'layer' })
      const middleware = postInvoke()
      const handler = middy<any, any>()
        .use(reaches ? middleware : [])
        .handler(async () => api.post('r1'))
      for (let time = 1; time <= 2; time++) {
        let isOver = false
        const next = run('r1', () => handler({}, lambdaContext('r1'))).then(() => {
          isOver = true
        })
        await until(() => api.accepts.length === time)
        await turns(20)
        expect(isOver).toBe(false)
        api.accepts.at(-1)?.()
        await next
        await turns(20)
      }
    })
  })
})

describe('beside the layer, on nodejs22.x, played here', () => {
  const BEFORE_EXIT = Symbol.for('aws.lambda.beforeExit')
  const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId')
  const idle = () => {}

  beforeEach(() => {
    startWith({ POST_INVOKE_COMPANION: 'layer' })
    delete globals.awslambda
    globals[BEFORE_EXIT] = idle
  })

  afterEach(() => {
    process.removeAllListeners('beforeExit')
    delete globals[BEFORE_EXIT]
    delete globals[REQUEST_ID]
  })

  it('a handler that a task of an earlier invocation calls leaves the next one its own', async () => {
    const spy = jest.spyOn(Object, 'defineProperty')
    const order: string[] = []
    const handler = handlerOf((name: string, context) => {
      if (name === 'inner') return
      context.defer(async () => {
        order.push(`task of ${name}`)
        if (name === 'r1') await hanging.promise
      })
    })
    // By the accessor itself: Jest's global reads a property each time it is set.
    const setListener = spy.mock.calls.find(([, key]) => key === BEFORE_EXIT)?.[2]?.set as (listener: unknown) => void
    spy.mockRestore()
    const hanging = Promise.withResolvers<void>()
    const invoke = async (id: string, handle: () => Promise<unknown>) => {
      globals[REQUEST_ID] = id
      setListener(() => {})
      await handle()
      order.push(`answer of ${id}`)
      setListener(idle)
      await turns(10)
    }
    const [first, second] = [lambdaContext('r1'), lambdaContext('r2')]
    await invoke('r1', () => handler('r1', first))
    await invoke('r2', async () => {
      await handler('inner', first)
      await handler('r2', second)
      await turns(10)
    })
    expect(order).toEqual(['answer of r1', 'task of r1', 'answer of r2', 'task of r2'])
    hanging.resolve()
    await turns(10)
    const settled = layer?.lines().filter(line => line.startsWith('settled'))
    expect(settled).toEqual(['settled 2 r2', 'settled 1 r1'])
  })

  it('first used inside an invocation, it does not say that this one is over while its handler runs', async () => {
    globals[REQUEST_ID] = 'r1'
    let told: string[] | undefined
    const handler = handlerOf(async () => {
      await turns(3)
      told = layer?.lines()
    })
    await handler({}, lambdaContext('r1'))
    expect(told).toEqual(['watch'])
  })
})

describe('a process that lacks the runtime client of its own runtime', () => {
  afterEach(() => {
    delete process.env.AWS_EXECUTION_ENV
  })

  it.each([
    ['AWS_Lambda_nodejs24.x', [], ['WARN_NO_CLIENT, this process has no runtime client']],
    // An image of one's own may have a client that tells nothing.
    ['AWS_Lambda_Image', ['watch', 'hold 1', 'settled 1 r1'], []],
  ])(
    'is a child of the function, and leaves the companion alone, where there should be one: %s',
    async (image, told, warned) => {
      startWith({ POST_INVOKE_COMPANION: 'layer', POST_INVOKE_PID: String(process.pid) })
      delete globals.awslambda
      process.env.AWS_EXECUTION_ENV = image
      const task = jest.fn()
      const handler = middy<any, any>()
        .use(postInvoke())
        .handler(async (_event, context) => void (context as Context).defer(task))
      await handler({}, lambdaContext('r1'))
      await until(() => task.mock.calls.length === 1)
      await turns(10)
      expect(layerLines()).toEqual(told)
      expect(
        logged.warn.mock.calls.map(([line]) =>
          String(line)
            .replace(/^middy-post-invoke: /, '')
            .slice(0, 50),
        ),
      ).toEqual(warned)
    },
  )
})

describe('SIGTERM', () => {
  const drained = async () => {
    const ran = jest.fn()
    onShutdown(ran)
    process.emit('SIGTERM')
    await until(() => ran.mock.calls.length === 1)
    await turns(10)
  }

  it('ends the process after the hooks, for good', async () => {
    startWith({ POST_INVOKE_COMPANION: 'layer' })
    await drained()
    expect(kill.mock.calls).toEqual([[process.pid, 'SIGKILL']])
    expect(logged.warn).not.toHaveBeenCalled()
  })

  it('leaves the end to others that listen, also when they no longer do once the hooks have run', async () => {
    startWith({ POST_INVOKE_COMPANION: 'layer' })
    process.once('SIGTERM', () => {})
    await drained()
    expect(kill).not.toHaveBeenCalled()
  })

  it.each([
    ['before', [() => postInvoke({ shutdown: false }), (hook: () => void) => onShutdown(hook)]],
    ['after', [(hook: () => void) => onShutdown(hook), () => postInvoke({ shutdown: false })]],
  ])('runs no hooks, and ends the process, where the drain was switched off %s they were given', async (_, steps) => {
    startWith({ POST_INVOKE_COMPANION: 'layer' })
    const ran = jest.fn()
    for (const step of steps) step(ran)
    process.emit('SIGTERM')
    await until(() => kill.mock.calls.length === 1)
    await turns(10)
    expect(ran).not.toHaveBeenCalled()
  })

  it('does not end the process of Managed Instances for good', async () => {
    startWith({ AWS_LAMBDA_MAX_CONCURRENCY: '8' })
    await drained()
    expect(kill).not.toHaveBeenCalled()
  })

  it('ends a process outside Lambda as it would have without us', async () => {
    startWith({})
    delete globals.awslambda
    delete process.env.AWS_LAMBDA_RUNTIME_API
    await drained()
    expect(kill.mock.calls).toEqual([[process.pid, 'SIGTERM']])
  })
})
