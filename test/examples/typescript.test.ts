// The declarations as users compile them: from the tarball, with the oldest and the newest TypeScript that read them, with
// both ways of finding modules, and with no library left unchecked.
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { install, makeFolder, root, run } from '../package/packed.ts'

const TEST_MS = 120_000

const { POST_INVOKE_TEST_TYPESCRIPT: oldest = 'POST_INVOKE_TEST_TYPESCRIPT: see scripts/install-test-runtimes.sh' } =
  process.env

const app = `
import middy from '@middy/core'
import type {
  APIGatewayProxyEventV2,
  APIGatewayProxyHandlerV2,
  APIGatewayProxyStructuredResultV2,
  Context as LambdaContext,
} from 'aws-lambda'
import postInvoke, { asLambdaHandler, defer, type Options, resource } from 'middy-post-invoke'
import { handOff } from 'middy-post-invoke/hand-off'
import 'middy-post-invoke/hand-off/embedded'
import { type Context, withExecutionContext, withPostInvoke } from 'middy-post-invoke/handler'
import { createJobHandler } from 'middy-post-invoke/job-handler'
import { writeHoldMetrics } from 'middy-post-invoke/metrics'
import 'middy-post-invoke/preload'
import { createSandbox } from 'middy-post-invoke/sandbox'
import { invoke } from 'middy-post-invoke/testing'

const options: Options = { concurrency: 2 }
const own = middy<APIGatewayProxyEventV2, APIGatewayProxyStructuredResultV2>()
  .use(postInvoke(options))
  .handler(async (event, context) => {
    context.defer(({ signal }) => fetch(event.rawPath, { signal }), { name: 'mail', on: 'success' })
    return { statusCode: 201 }
  })
export const handler: APIGatewayProxyHandlerV2 = asLambdaHandler(own)
export const inATest = (event: APIGatewayProxyEventV2) => asLambdaHandler(own)(event, {} as LambdaContext)
export const plain: APIGatewayProxyHandlerV2 = withPostInvoke(async (_event: APIGatewayProxyEventV2, { defer }) => {
  defer(() => {})
  return { statusCode: 201 }
})
export const helper = ({ defer }: Context) => defer(() => {})
export const all = [defer, resource, handOff, withExecutionContext, createJobHandler, writeHoldMetrics, createSandbox, invoke]
`

const resolutions = { NodeNext: { module: 'NodeNext' }, bundler: { module: 'ESNext', moduleResolution: 'bundler' } }

const project = makeFolder()
beforeAll(async () => {
  await install(project.path)
  for (const name of ['@types/node', 'undici-types']) {
    const link = join(project.path, 'node_modules', name)
    mkdirSync(dirname(link), { recursive: true })
    symlinkSync(join(root, 'node_modules', name), link)
  }
}, TEST_MS)
afterAll(() => project[Symbol.dispose]())

describe.each([
  ['TypeScript 5.9', oldest],
  ['TypeScript 7', join(root, 'node_modules', 'typescript')],
])('%s', (name, folder) => {
  const compile = async (resolution: object, source: string) => {
    const compilerOptions = {
      ...resolution,
      ...{ target: 'ES2023', strict: true, exactOptionalPropertyTypes: true },
      ...{ types: ['node'], noEmit: true, skipLibCheck: false },
    }
    writeFileSync(join(project.path, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['app.ts'] }))
    writeFileSync(join(project.path, 'app.ts'), source)
    const tsc = [join(folder, 'bin', 'tsc'), '--pretty', 'false', '--project', '.']
    const { stdout } = await run(process.execPath, tsc, { cwd: project.path })
    // Only ours: the declarations of Middy and of the job handler name optional packages.
    return stdout.split('\n').filter(line => /^(app\.ts|node_modules\/middy-post-invoke)/.test(line))
  }

  it('is that version', async () => {
    const { stdout } = await run(process.execPath, [join(folder, 'bin', 'tsc'), '--version'])
    expect(`TypeScript ${/\d.*/.exec(stdout)?.[0]}`).toContain(name)
  })

  it.each(Object.entries(resolutions))(
    'compiles them with %s',
    async (_, resolution) => {
      expect(await compile(resolution, app)).toEqual([])
      expect(await compile(resolution, `${app}\nown({}, {} as LambdaContext)\npostInvoke({ order: 1 })`)).toHaveLength(
        2,
      )
    },
    TEST_MS,
  )
})
