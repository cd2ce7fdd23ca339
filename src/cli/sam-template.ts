// `post-invoke template`: writes a SAM template for one handler, with the layer.
import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, extname, join, relative, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { version } from '../version.ts'
import { UsageError } from './errors.ts'
import { findHandler, HANDLER_ARGUMENT, type HandlerFile, handlerSetting } from './handler-file.ts'
import { prepareFile } from './out-file.ts'
import { fromHere, layerZip } from './package-files.ts'
import { yaml } from './quote.ts'
import { seconds } from './values.ts'
import { writeVerifyTemplate } from './verify-template.ts'

const RUNTIMES = ['nodejs22.x', 'nodejs24.x', 'nodejs26.x'] as const

type TemplateOptions = {
  readonly out?: string
  readonly verify?: boolean
  readonly layer?: string
  readonly embedded?: boolean
  readonly runtime: (typeof RUNTIMES)[number]
  readonly timeout: number
  readonly url: (typeof URLS)[number]
  readonly force?: boolean
}

const URLS = ['iam', 'public', 'none'] as const

const DEFAULT_ZIP = 'post-invoke-layer.zip'

export const addTemplateCommand = (program: Command, _finish: (code: number) => void) => {
  program
    .command('template')
    .summary('write a SAM template for a handler, with the layer')
    .description(
      'Writes a SAM template for a handler, with the layer. TypeScript is built by `sam build` with esbuild.',
    )
    .argument('[file]', HANDLER_ARGUMENT)
    .option(
      '-o, --out <path>',
      'where to write it; - prints it (default: template.yaml; with --verify, the folder post-invoke-verify)',
    )
    .option('--verify', 'functions for `post-invoke verify` in place of a handler')
    .addOption(
      new Option(
        '--layer <path>',
        `the layer as zip or folder (default: ${DEFAULT_ZIP}, which is written where the project has none)`,
      ).conflicts('embedded'),
    )
    .option('--embedded', "no layer: the function's own process is the companion")
    .addOption(new Option('--runtime <name>', 'the runtime').choices(RUNTIMES).default('nodejs24.x'))
    .option('--timeout <seconds>', "the function's timeout, in which its tasks run too", seconds, 30)
    .addOption(
      new Option('--url <access>', 'a URL of the function: for callers with AWS credentials, for anybody, or none')
        .choices(URLS)
        .default('iam'),
    )
    .option('--force', 'replace a file that is there')
    .action(template)
}

const template = (given: string | undefined, options: TemplateOptions) => {
  const { force = false } = options
  if (options.verify) {
    if (given !== undefined) throw new UsageError('Expected no FILE with --verify, which brings a function of its own.')
    writeVerifyTemplate(options.out ?? 'post-invoke-verify', force)
    return
  }
  if (given === undefined) throw new UsageError(`Expected FILE, ${HANDLER_ARGUMENT}, or --verify.`)
  const { out = 'template.yaml' } = options
  const handler = findHandler(given)
  if (stemOf(handler.file).includes('.')) {
    throw new UsageError(
      `Expected the handler's file to have no dot before its ending, got ${basename(handler.file)}. Lambda takes what follows the first dot for the export: rename the file.`,
    )
  }
  const folder = out === '-' ? process.cwd() : dirname(resolve(out))
  if (out !== '-') prepareFile('--out', out)
  const layer = options.embedded ? undefined : (options.layer ?? findLayer(handler, folder))
  const text = samTemplate(handler, { ...options, folder, layer })
  if (out === '-') {
    process.stdout.write(text)
    if (layer !== undefined && !existsSync(layer))
      console.error(`${fromHere(layer)}: npx middy-post-invoke layer writes it`)
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
  if (layer !== undefined && options.layer === undefined && !existsSync(layer)) {
    copyFileSync(layerZip, layer)
    console.log(`${fromHere(layer)}: the layer of middy-post-invoke ${version}`)
  }
  const bundler = handler.isTypeScript
    ? ' It is bundled with esbuild, which has to be installed: npm install --save-dev esbuild'
    : ''
  console.log(
    `${out}: a SAM template for ${given}. Next: sam build && sam deploy --guided.${bundler}${CALLS[options.url]}`,
  )
}

const CALLS = {
  iam: '\nThen: curl --aws-sigv4 "aws:amz:$AWS_REGION:lambda" --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -H "x-amz-security-token: $AWS_SESSION_TOKEN" FUNCTION_URL',
  public: '\nThen: curl FUNCTION_URL, as anybody may who knows it.',
  none: '',
}

/** A file that stays: written already, or of the package that the project has installed; else one to be written here. */
const findLayer = ({ project }: HandlerFile, folder: string): string => {
  if (existsSync(DEFAULT_ZIP)) return DEFAULT_ZIP
  const places = createRequire(join(project, 'package.json')).resolve.paths('middy-post-invoke') ?? []
  const installed = places
    .map(place => join(place, 'middy-post-invoke', 'dist', 'layer.zip'))
    .find(path => existsSync(path) && readFileSync(path).equals(readFileSync(layerZip)))
  return installed ?? join(folder, DEFAULT_ZIP)
}

type SamOptions = Omit<TemplateOptions, 'layer' | 'out'> & {
  readonly folder: string
  readonly layer: string | undefined
}

const samTemplate = (handler: HandlerFile, { folder, layer, runtime, timeout, url }: SamOptions): string => {
  const fromTemplate = (path: string) => relative(folder, resolve(path)) || '.'
  return `\
AWSTemplateFormatVersion: '2010-09-09'
Transform: AWS::Serverless-2016-10-31
Description: A function whose deferred work runs after its response (middy-post-invoke)

Resources:
${layer === undefined ? '' : layerResource(fromTemplate(layer))}\
  Function:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: ${yaml(fromTemplate(handler.project))}
      Handler: ${yaml(handler.isTypeScript ? `${stemOf(handler.file)}.${handler.exported}` : handlerSetting(handler))}
      Runtime: ${runtime}
      # Deferred tasks run within the timeout, and are billed.
      Timeout: ${timeout}
      MemorySize: 256
${layer === undefined ? '' : '      Layers:\n        - !Ref PostInvokeLayer\n'}\
${FUNCTION_URLS[url]}\
${handler.isTypeScript ? esbuildMetadata(relative(handler.project, handler.file)) : ''}
Outputs:
  FunctionArn:
    Value: !GetAtt Function.Arn
${url === 'none' ? '' : '  FunctionUrl:\n    Value: !GetAtt FunctionUrl.FunctionUrl\n'}`
}

const FUNCTION_URLS = {
  iam: `\
      # NONE would let anybody call it.
      FunctionUrlConfig:
        AuthType: AWS_IAM
`,
  public: `\
      # Anybody may call it.
      FunctionUrlConfig:
        AuthType: NONE
`,
  none: '',
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
        - nodejs26.x
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
