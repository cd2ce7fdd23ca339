// `post-invoke template`: writes a SAM template for one handler, with the layer.
import { existsSync, writeFileSync } from 'node:fs'
import { basename, dirname, extname, relative, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { version } from '../version.ts'
import { UsageError } from './errors.ts'
import { findHandler, HANDLER_ARGUMENT, type HandlerFile, handlerSetting } from './handler-file.ts'
import { layerZip } from './package-files.ts'
import { yaml } from './quote.ts'
import { seconds } from './values.ts'

const RUNTIMES = ['nodejs22.x', 'nodejs24.x'] as const

type TemplateOptions = {
  readonly out: string
  readonly layer?: string
  readonly embedded?: boolean
  readonly runtime: (typeof RUNTIMES)[number]
  readonly timeout: number
  readonly force?: boolean
}

const DEFAULT_ZIP = 'post-invoke-layer.zip'

export const addTemplateCommand = (program: Command, _finish: (code: number) => void) => {
  program
    .command('template')
    .summary('write a SAM template for a handler, with the layer')
    .description(
      'Writes a SAM template for a handler, with the layer. TypeScript is built by `sam build` with esbuild.',
    )
    .argument('<file>', HANDLER_ARGUMENT)
    .option('-o, --out <path>', 'where to write it; - prints it', 'template.yaml')
    .addOption(
      new Option(
        '--layer <path>',
        `the layer as zip or folder (default: ${DEFAULT_ZIP}, or the one in this package)`,
      ).conflicts('embedded'),
    )
    .option('--embedded', "no layer: the function's own process is the companion")
    .addOption(new Option('--runtime <name>', 'the runtime').choices(RUNTIMES).default('nodejs24.x'))
    .option('--timeout <seconds>', "the function's timeout, in which its tasks run too", seconds, 30)
    .option('--force', 'replace a file that is there')
    .action(template)
}

const template = (given: string, options: TemplateOptions) => {
  const { out, force = false } = options
  const handler = findHandler(given)
  if (stemOf(handler.file).includes('.')) {
    throw new UsageError(
      `Expected the handler's file to have no dot before its ending, got ${basename(handler.file)}. Lambda takes what follows the first dot for the export: rename the file.`,
    )
  }
  const text = samTemplate(handler, options)
  if (out === '-') {
    process.stdout.write(text)
    return
  }
  try {
    writeFileSync(out, text, { flag: force ? 'w' : 'wx' })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    throw new UsageError(
      `Expected --out to name a new file, but ${out} is there. Name another one, print it with --out -, or replace it with --force.`,
    )
  }
  const bundler = handler.isTypeScript
    ? ' It is bundled with esbuild, which has to be installed: npm install --save-dev esbuild'
    : ''
  console.log(`${out}: a SAM template for ${given}. Next: sam build && sam deploy --guided.${bundler}`)
}

const samTemplate = (handler: HandlerFile, options: TemplateOptions): string => {
  const folder = options.out === '-' ? process.cwd() : dirname(resolve(options.out))
  const fromTemplate = (path: string) => relative(folder, resolve(path)) || '.'
  return `\
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Description: A function whose deferred work runs after its response (middy-post-invoke)

Resources:
${options.embedded ? '' : layerResource(fromTemplate(options.layer ?? (existsSync(DEFAULT_ZIP) ? DEFAULT_ZIP : layerZip)))}\
  Function:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: ${yaml(fromTemplate(handler.project))}
      Handler: ${yaml(handler.isTypeScript ? `${stemOf(handler.file)}.${handler.exported}` : handlerSetting(handler))}
      Runtime: ${options.runtime}
      # Deferred tasks run within the timeout, and are billed.
      Timeout: ${options.timeout}
      MemorySize: 256
${options.embedded ? '' : '      Layers:\n        - !Ref PostInvokeLayer\n'}\
${handler.isTypeScript ? esbuildMetadata(relative(handler.project, handler.file)) : ''}
Outputs:
  FunctionArn:
    Value: !GetAtt Function.Arn
`
}

const layerResource = (contentUri: string) => `\
  PostInvokeLayer:
    Type: AWS::Serverless::LayerVersion
    Properties:
      LayerName: middy-post-invoke
      Description: ${yaml(`middy-post-invoke ${version}`)}
      ContentUri: ${yaml(contentUri)}
      CompatibleRuntimes:
        - nodejs22.x
        - nodejs24.x
      CompatibleArchitectures:
        - x86_64
        - arm64

`

/** An ES module: Middy is one. CommonJS that it bundles still finds a `require`. */
const esbuildMetadata = (entry: string) => `\
    Metadata:
      BuildMethod: esbuild
      BuildProperties:
        EntryPoints:
          - ${yaml(entry)}
        Format: esm
        OutExtension:
          - .js=.mjs
        Target: es2023
        Minify: false
        Sourcemap: true
        Banner:
          - js=import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);
`

const stemOf = (file: string) => basename(file, extname(file))
