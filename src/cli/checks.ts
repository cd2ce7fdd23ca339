// What `post-invoke doctor` makes of versions and of a function's configuration. Nothing is run here.

import type { FunctionConfiguration } from './configuration.ts'
import { CommandError } from './errors.ts'
import { manifest } from './package-files.ts'

/** `id` is stable: programs that read `--json` go by it. */
export type Check = {
  readonly id: string
  readonly status: 'ok' | 'info' | 'warning' | 'problem'
  readonly message: string
  readonly advice?: string
}

export const ok = (id: string, message: string): Check => ({ id, status: 'ok', message })
export const info = (id: string, message: string, advice?: string): Check => withAdvice(id, 'info', message, advice)
export const warning = (id: string, message: string, advice?: string): Check =>
  withAdvice(id, 'warning', message, advice)
export const problem = (id: string, message: string, advice?: string): Check =>
  withAdvice(id, 'problem', message, advice)

const withAdvice = (id: string, status: Check['status'], message: string, advice: string | undefined): Check => ({
  id,
  status,
  message,
  ...(advice === undefined ? {} : { advice }),
})

const LEAST_NODE = manifest.engines.node.replace('>=', '')
const LEAST_MIDDY = '7.3.0'

export const checkNode = (node: string): Check =>
  isAtLeast(node, LEAST_NODE)
    ? ok('node', `Node.js ${node}`)
    : problem('node', `Node.js ${node} runs here`, NODE_ADVICE)

const NODE_ADVICE = `This package needs ${LEAST_NODE} or later.`

/** @throws CommandError where this package cannot run: what it would show then is not what happens on Lambda. */
export const requireNode = (node: string): void => {
  if (!isAtLeast(node, LEAST_NODE)) throw new CommandError(`Node.js ${node} runs here. ${NODE_ADVICE}`)
}

/** @param versionOf - The version of a package that the project has, if it has it. */
export const checkPackages = (versionOf: (name: string) => string | undefined, own: string): readonly Check[] => {
  const installed = versionOf('middy-post-invoke')
  const middy = versionOf('@middy/core')
  return [
    installed === undefined
      ? info('package', 'The project has no middy-post-invoke in its node_modules', 'npm install middy-post-invoke')
      : installed === own
        ? ok('package', `middy-post-invoke ${installed}`)
        : warning(
            'package',
            `The project has middy-post-invoke ${installed}, and this is ${own}`,
            'Run the one of the project: npx middy-post-invoke in its folder.',
          ),
    ...(middy === undefined
      ? []
      : [
          isAtLeast(middy, LEAST_MIDDY)
            ? ok('middy', `@middy/core ${middy}`)
            : problem(
                'middy',
                `The project has @middy/core ${middy}`,
                `This package needs ${LEAST_MIDDY} or later: npm install @middy/core@latest`,
              ),
        ]),
  ]
}

export const isAtLeast = (given: string, least: string): boolean => {
  const parts = (text: string) => text.split(/[.-]/).slice(0, 3).map(Number)
  const [one, other] = [parts(given), parts(least)]
  const index = one.findIndex((part, index) => part !== other[index])
  return index < 0 || (one[index] ?? 0) > (other[index] ?? 0)
}

export const checkConfiguration = (
  configuration: FunctionConfiguration,
  variables: Readonly<Record<string, string>>,
): readonly Check[] => {
  const { file, name } = configuration
  const where = `${file}, ${name}`
  const checks = [
    ...checkRuntime(configuration, where),
    ...checkTimeout(configuration, where),
    ...checkLayer(configuration, variables, where),
    ...checkVariables(configuration, variables, where),
  ]
  return checks.some(({ status }) => status !== 'info' && status !== 'ok')
    ? checks
    : [ok('configuration', `${where}: nothing wrong`), ...checks]
}

const checkRuntime = ({ runtime, isImage }: FunctionConfiguration, where: string): readonly Check[] => {
  if (isImage || runtime === undefined) return []
  const [, major] = /^nodejs(\d+)\.x$/.exec(runtime) ?? []
  if (Number(major) >= 22) return []
  return [problem('runtime', `${where}: the runtime is ${runtime}`, 'This package needs nodejs22.x or later.')]
}

/** Below this, what the handler and a cold start leave of the time is not worth deferring to. */
const SHORT_SECONDS = 1

const checkTimeout = ({ timeout }: FunctionConfiguration, where: string): readonly Check[] =>
  timeout !== undefined && timeout <= SHORT_SECONDS
    ? [
        warning(
          'timeout',
          `${where}: the timeout is ${timeout} s, and tasks are aborted 250 ms before it ends unless deadlineMargin says otherwise`,
          "Raise the function's timeout: it counts the handler and its tasks.",
        ),
      ]
    : []

const checkLayer = (
  { layer, hasUnknownLayers }: FunctionConfiguration,
  { POST_INVOKE_COMPANION: companion = 'auto' }: Readonly<Record<string, string>>,
  where: string,
): readonly Check[] => {
  const mode = companion.toLowerCase()
  if (!layer) {
    if (mode !== 'layer') return []
    const message = `${where}: POST_INVOKE_COMPANION is layer, and no layer of this package is attached`
    const advice = 'Attach it (npx middy-post-invoke layer), or remove the variable.'
    return [
      hasUnknownLayers
        ? warning('layer', `${message} as far as can be told`, advice)
        : problem('layer', message, advice),
    ]
  }
  const { content, path, text } = layer
  return [
    ...(content === 'missing'
      ? [
          problem(
            'layer',
            `${where}: the layer ${text} is made of ${path}, which is not there`,
            `npx middy-post-invoke layer --out ${path}`,
          ),
        ]
      : []),
    ...(content === 'other'
      ? [
          problem(
            'layer',
            `${where}: the layer ${text} is of another version: ${path} is not what this one has`,
            `npx middy-post-invoke layer --out ${path}`,
          ),
        ]
      : []),
    ...(content === undefined
      ? [
          info(
            'layer',
            `${where}: of which version the layer ${text} is cannot be seen from here`,
            'The function logs it when they do not understand each other.',
          ),
        ]
      : []),
    ...(['embedded', 'internal'].includes(mode)
      ? [
          warning(
            'layer',
            `${where}: the layer is attached, and POST_INVOKE_COMPANION=${companion} switches it off`,
            'Detach it, or remove the variable.',
          ),
        ]
      : []),
  ]
}

const checkVariables = (
  { memory }: FunctionConfiguration,
  variables: Readonly<Record<string, string>>,
  where: string,
): readonly Check[] => {
  const { NODE_OPTIONS: options = '', AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA: noGlobal = '' } = variables
  const heap = Number(/--max[-_]old[-_]space[-_]size[= ](\d+)/.exec(options)?.[1])
  return [
    ...(variables.POST_INVOKE_COMPANION?.toLowerCase() === 'off'
      ? [
          problem(
            'companion',
            `${where}: POST_INVOKE_COMPANION is off, and nothing is held`,
            'Remove the variable: tasks are awaited before the answer now.',
          ),
        ]
      : []),
    ...(/--(experimental-)?permission\b/.test(options) && !/--allow-child-process\b/.test(options)
      ? [
          warning(
            'node-options',
            `${where}: NODE_OPTIONS has --permission without --allow-child-process`,
            'An internal extension is registered by a child process. Allow it, or attach the layer.',
          ),
        ]
      : []),
    ...(/middy-post-invoke\/preload/.test(options)
      ? [
          info(
            'node-options',
            `${where}: NODE_OPTIONS preloads middy-post-invoke/preload`,
            'It is needed on Managed Instances alone.',
          ),
        ]
      : []),
    ...(/--unhandled-rejections[= ](none|warn)\b/.test(options)
      ? [
          warning(
            'node-options',
            `${where}: NODE_OPTIONS keeps unhandled rejections from ending the process`,
            'A promise that nobody awaits fails in silence then.',
          ),
        ]
      : []),
    ...(memory !== undefined && heap >= memory
      ? [
          warning(
            'node-options',
            `${where}: NODE_OPTIONS allows a heap of ${heap} MB, and the function has ${memory} MB`,
            'Lambda kills the process before V8 collects its garbage. What it had deferred is lost then.',
          ),
        ]
      : []),
    ...(['1', 'true'].includes(noGlobal)
      ? [
          info(
            'gate',
            `${where}: AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA is set`,
            'Without the layer an internal extension holds in place of the gate.',
          ),
        ]
      : []),
  ]
}
