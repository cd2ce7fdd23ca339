// The tarball in an empty project: it is imported, run and compiled against as users do.
import { existsSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { bin, install, makeFolder, root, run, succeed } from './packed.ts'

const project = makeFolder()
const write = (name: string, text: string) => writeFileSync(join(project.path, name), text)
const node = async (script: string, env: NodeJS.ProcessEnv = {}) =>
  JSON.parse(await succeed(process.execPath, [script], { cwd: project.path, env: { PATH: process.env.PATH, ...env } }))

beforeAll(async () => {
  await install(project.path)
  write(
    'handler.js',
    `import middy from '@middy/core'
     import postInvoke from 'middy-post-invoke'
     export const handler = middy()
       .use(postInvoke())
       .handler(async (event, context) => {
         context.defer(() => console.log('task of ' + context.awsRequestId))
         return { answer: 42 }
       })`,
  )
})
afterAll(() => project[Symbol.dispose]())

describe('installed into an empty project', () => {
  it('brings no development dependency along', () => {
    const of = (name: string) => existsSync(join(project.path, 'node_modules', name))
    expect(['middy-post-invoke', '@middy/util', 'undici', 'fast-check', 'fflate'].map(of)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ])
  })

  it('exports what the documentation names', async () => {
    write(
      'exports.js',
      `import * as main from 'middy-post-invoke'
       import * as handOff from 'middy-post-invoke/hand-off'
       import * as handler from 'middy-post-invoke/handler'
       import * as jobHandler from 'middy-post-invoke/job-handler'
       import * as sandbox from 'middy-post-invoke/sandbox'
       import * as testing from 'middy-post-invoke/testing'
       const names = [main, handOff, handler, jobHandler, sandbox, testing].map(module => Object.keys(module))
       console.log(JSON.stringify([...names, main.default.name]))`,
    )
    expect(await node('exports.js')).toEqual([
      [
        ...['PostInvokeError', 'asLambdaHandler', 'default', 'defer', 'onShutdown', 'postInvokeValidateOptions'],
        ...['resource', 'waitUntil', 'withExecutionContext', 'withPostInvoke'],
      ],
      ['createHandOff', 'default', 'handOff'],
      [
        ...['PostInvokeError', 'defer', 'onShutdown', 'resource', 'waitUntil', 'withExecutionContext'],
        'withPostInvoke',
      ],
      ['createJobHandler'],
      ['SandboxError', 'createSandbox'],
      ['TestingError', 'durableExecutionPluginProvider', 'invoke', 'reset', 'send', 'shutdown'],
      expect.any(String),
    ])
  })

  it('has the layer where it says, and shows nothing else', async () => {
    write(
      'paths.js',
      `import { existsSync } from 'node:fs'
       const paths = ['layer.zip', 'package.json', 'dist/index.js', 'extension'].map(path => {
         try { return existsSync(new URL(import.meta.resolve('middy-post-invoke/' + path))) } catch (error) { return error.code }
       })
       console.log(JSON.stringify(paths))`,
    )
    expect(await node('paths.js')).toEqual([
      true,
      true,
      'ERR_PACKAGE_PATH_NOT_EXPORTED',
      'ERR_PACKAGE_PATH_NOT_EXPORTED',
    ])
  })

  it('runs a handler outside Lambda', async () => {
    write(
      'outside.js',
      `const lines = []
       console.log = line => lines.push(line)
       const { handler } = await import('./handler.js')
       lines.push(await handler({}, { awsRequestId: 'r1' }))
       while (lines.length < 2) await new Promise(resolve => setTimeout(resolve, 5))
       process.stdout.write(JSON.stringify(lines))`,
    )
    expect(await node('outside.js')).toEqual([{ answer: 42 }, 'task of r1'])
  })

  it('can be required from CommonJS, where Node can', async () => {
    write('required.cjs', `console.log(JSON.stringify(typeof require('middy-post-invoke').default))`)
    expect(await node('required.cjs')).toBe('function')
  })

  it.each([
    ['the layer', 'layer'],
    ['no layer, and the gate', 'embedded'],
    ['no layer, and the internal extension', 'internal'],
    ['no companion', 'off'],
  ])('runs it in its own sandbox with %s', async (_, companion) => {
    write(
      'sandbox.js',
      `import { createSandbox } from 'middy-post-invoke/sandbox'
       const companion = process.env.COMPANION
       const sandbox = await createSandbox({
         taskRoot: '.',
         handler: 'handler.handler',
         timeout: 10_000,
         layers: companion === 'layer' ? ['node_modules/middy-post-invoke/dist/layer'] : [],
         environment: { POST_INVOKE_COMPANION: companion },
       })
       const reports = []
       for (const requestId of ['r1', 'r2']) {
         const { status, ...answer } = await sandbox.invoke({}, { requestId })
         // As it is at the release: the environment may freeze from here on.
         const tasks = sandbox.logs.filter(({ text }) => text.startsWith('task of')).map(({ text }) => text)
         reports.push({ status, body: answer.body(), tasks })
       }
       const extensions = Object.keys(sandbox.extensionPids)
       const { reason } = await sandbox.shutdown()
       const ours = sandbox.logs.filter(({ text }) => text.includes('middy-post-invoke:')).map(({ text }) => text)
       console.log(JSON.stringify({ reports, extensions, reason, ours }))`,
    )
    expect(await node('sandbox.js', { COMPANION: companion })).toEqual({
      reports: [
        { status: 'success', body: { answer: 42 }, tasks: ['task of r1'] },
        { status: 'success', body: { answer: 42 }, tasks: ['task of r1', 'task of r2'] },
      ],
      extensions: companion === 'layer' ? ['post-invoke'] : [],
      reason: 'SPINDOWN',
      ours: [],
    })
  })
})

describe('its types', () => {
  const compile = async (source: string) => {
    write('app.ts', source)
    const { stdout } = await run(bin('tsc'), ['--pretty', 'false', '--project', '.'], { cwd: project.path })
    // Only ours: those of Middy name an optional package.
    return stdout.split('\n').filter(line => /^(app\.ts|node_modules\/middy-post-invoke)/.test(line))
  }

  beforeAll(() => {
    mkdirSync(join(project.path, 'node_modules', '@types'), { recursive: true })
    for (const name of ['@types/node', 'undici-types']) {
      symlinkSync(join(root, 'node_modules', name), join(project.path, 'node_modules', name))
    }
    write(
      'tsconfig.json',
      JSON.stringify({
        compilerOptions: {
          module: 'NodeNext',
          target: 'ES2023',
          strict: true,
          exactOptionalPropertyTypes: true,
          types: ['node'],
          noEmit: true,
          skipLibCheck: false,
        },
        files: ['app.ts'],
      }),
    )
  })

  const app = `
    import middy from '@middy/core'
    import type { APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2 } from 'aws-lambda'
    import postInvoke, { defer, PostInvokeError, type Context, type Options } from 'middy-post-invoke'
    import { createSandbox, SandboxError, type Sandbox, type SandboxOptions } from 'middy-post-invoke/sandbox'

    const options: Options = { concurrency: 2 }
    export const handler = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
      .use(postInvoke(options))
      .handler(async (event, context) => {
        context.defer(({ signal }) => fetch(event.rawPath, { signal }), { name: 'mail', on: 'success' })
        defer(async () => {})
        return { statusCode: 201 }
      })
    export const helper = ({ defer }: Context) => defer(() => {})
    export const isOurs = (error: unknown) => error instanceof PostInvokeError && error.code === 'ERR_TASK_TIMEOUT'
    export const start = (given: SandboxOptions): Promise<Sandbox> => createSandbox(given)
    export const isIts = (error: unknown) => error instanceof SandboxError && error.code === 'INIT_FAILED'`

  it('are found under NodeNext, and need no skipLibCheck', async () => {
    expect(await compile(app)).toEqual([])
  })

  it('are found for handlers without Middy, in a project that does not have it', async () => {
    const middy = join(project.path, 'node_modules', '@middy')
    renameSync(middy, `${middy}-away`)
    try {
      const plain = `
        import type { APIGatewayProxyEventV2, Context as LambdaContext } from 'aws-lambda'
        import { handOff } from 'middy-post-invoke/hand-off'
        import { withPostInvoke, type Context, type Options } from 'middy-post-invoke/handler'

        const options: Options = { concurrency: 2 }
        export const later = () => handOff('report', { of: 'today' })
        export const helper = ({ defer }: Context) => defer(() => {})
        export const handler = withPostInvoke(async (event: APIGatewayProxyEventV2, context) => helper(context), options)
        export const call = (event: APIGatewayProxyEventV2, context: LambdaContext) => handler(event, context)`
      expect(await compile(plain)).toEqual([])
      expect(await compile(`${plain}\nhandler(1)`)).toHaveLength(1)
    } finally {
      renameSync(`${middy}-away`, middy)
    }
  })

  it('are not just any', async () => {
    const errors = await compile(`${app}
      postInvoke({ concurrency: '2' })
      createSandbox({ taskRoot: 1 })
      defer(42)`)
    expect(errors).toHaveLength(3)
  })
})
